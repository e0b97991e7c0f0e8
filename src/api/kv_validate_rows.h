/* api/kv_validate_rows - a manifest's fragment and what the rules say of it: the table of kv_validate_test.c.
 *
 * Of VMIs the fragment is laid over one that has 64Mi of memory and nothing else; VMs are whole. */
#pragma once

#define GATES(list) "{\"developerConfiguration\":{\"featureGates\":[" list "]}}"
#define GATE(name) "\"" #name "\""

/* one more byte than may be */
#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X256 X64 X64 X64 X64
#define LONG_257 X256 "x"
#define LONG_2049 X256 X256 X256 X256 X256 X256 X256 X256 "x"

/* clang-format off */
static const struct row vmi_rows[] = {
    /* good */
    {NULL, "{}", ""},
    {NULL, "{\"spec\":{\"domain\":{\"cpu\":{\"cores\":4}}}}", ""},
    {NULL, "{\"spec\":{\"domain\":{\"firmware\":{\"bootloader\":{\"efi\":{\"secureBoot\":false}}}}}}", ""},
    {NULL, "{\"spec\":{\"domain\":{\"firmware\":{\"bootloader\":{\"efi\":{}}},\"features\":{\"smm\":{}}}}}", ""},
    {NULL,
     "{\"spec\":{\"hostname\":\"a\",\"subdomain\":\"b.c\",\"startStrategy\":\"Paused\",\"evictionStrategy\":\"External\"}}",
     ""},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"watchdog\":{\"name\":\"w\",\"i6300esb\":{\"action\":\"poweroff\"}},\"sound\":{\"name\":\"s"
     "\"},\"rng\":{},\"inputs\":[{\"name\":\"t\",\"type\":\"tablet\"}]}}}}", ""},
    {GATES(GATE(VideoConfig) "," GATE(PanicDevices)),
     "{\"spec\":{\"domain\":{\"devices\":{\"video\":{\"type\":\"bochs\"},\"panicDevices\":[{\"model\":\"pvpanic\"}]}}}}",
     ""},
    {NULL,
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"containerDisk\":{\"image\":\"x\",\"path\":\"/disk/a.img\"}},{\"name\":\"b\",\"emptyDis"
     "k\":{\"capacity\":\"1Gi\"}},{\"name\":\"c\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}},{\"name\":\"d\",\"cloudInitNoClo"
     "ud\":{\"userData\":\"x\"}},{\"name\":\"e\",\"configMap\":{\"name\":\"m\"}},{\"name\":\"f\",\"secret\":{\"secretName\":\"m\"}},{\"na"
     "me\":\"g\",\"ephemeral\":{\"persistentVolumeClaim\":{\"claimName\":\"c\"}}},{\"name\":\"h\",\"sysprep\":{\"configMap\":{\"nam"
     "e\":\"m\"}}}]}}", ""},
    {NULL,
     "{\"spec\":{\"accessCredentials\":[{\"sshPublicKey\":{\"source\":{\"secret\":{\"secretName\":\"s\"}},\"propagationMethod\""
     ":{\"noCloud\":{}}}}],\"volumes\":[{\"name\":\"d\",\"cloudInitNoCloud\":{\"userData\":\"x\"}}]}}", ""},
    /* names, strategies, probes, DNS */
    {NULL, "{\"spec\":{\"hostname\":\"A\"}}",
     "I spec.hostname: spec.hostname does not conform to the kubernetes DNS_LABEL rules : a lowercase RFC 1123 "
     "label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanume"
     "ric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?" "')"},
    {NULL, "{\"spec\":{\"subdomain\":\"b_\"}}",
     "I spec.subdomain: spec.subdomain does not conform to the kubernetes DNS_SUBDOMAIN rules : a lowercase RFC"
     " 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end wi"
     "th an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-"
     "9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"},
    {NULL, "{\"spec\":{\"startStrategy\":\"Now\"}}",
     "I spec.startStrategy: spec.startStrategy is set with an unrecognized option: Now"},
    {NULL, "{\"spec\":{\"startStrategy\":\"Paused\",\"livenessProbe\":{\"guestAgentPing\":{}}}}",
     "I spec.startStrategy: either spec.startStrategy or spec.livenessProbe should be provided.Pausing VMI with"
     " LivenessProbe is not supported"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\"}],\"sound\":{\"name\":\"a\"}}},\"volumes\":[{\"name\":\"a\",\"emptyDis"
           "k\":{\"capacity\":\"1Gi\"}}]}}",
     "I spec.domain.devices.sound.name: devices of one machine need different names: 'a' is also one of its disks"},
    {NULL, "{\"spec\":{\"evictionStrategy\":\"Kill\"}}",
     "I spec.evictionStrategy: spec.evictionStrategy is set with an unrecognized option: Kill"},
    {NULL, "{\"spec\":{\"terminationGracePeriodSeconds\":-1}}",
     "I spec.terminationGracePeriodSeconds: spec.terminationGracePeriodSeconds must be greater than or equal to" " 0."},
    {NULL, "{\"spec\":{\"readinessProbe\":{}}}",
     "R spec.readinessProbe: either spec.readinessProbe.tcpSocket, spec.readinessProbe.exec or spec.readinessPr"
     "obe.httpGet must be set if a spec.readinessProbe is specified"},
    {NULL, "{\"spec\":{\"livenessProbe\":{\"exec\":{},\"tcpSocket\":{}}}}",
     "I spec.livenessProbe: spec.livenessProbe must have exactly one probe type set"},
    {NULL,
     "{\"spec\":{\"livenessProbe\":{\"httpGet\":{\"port\":1}},\"domain\":{\"devices\":{\"autoattachPodInterface\":false}}}}",
     "I spec.livenessProbe.httpGet: spec.livenessProbe.httpGet is only allowed if the Pod Network is attached"},
    {NULL, "{\"spec\":{\"dnsPolicy\":\"Mine\"}}",
     "N spec.dnsPolicy: DNSPolicy: Mine is not supported, valid values: [ClusterFirstWithHostNet ClusterFirst D"
     "efault None ]"},
    {NULL, "{\"spec\":{\"dnsPolicy\":\"None\"}}", "R spec.dnsConfig: must provide `dnsConfig` when `dnsPolicy` is None"},
    {NULL, "{\"spec\":{\"dnsPolicy\":\"None\",\"dnsConfig\":{}}}",
     "R spec.dnsConfig.nameservers: must provide at least one DNS nameserver when `dnsPolicy` is None"},
    {NULL, "{\"spec\":{\"dnsConfig\":{\"nameservers\":[\"1.1.1.1\",\"::1\",\"x\",\"9.9.9.9\"]}}}",
     "I spec.dnsConfig.nameservers: must not have more than 3 nameservers: 4\n"
     "I spec.dnsConfig.nameservers[2]: must be valid IP address: x"},
    {NULL, "{\"spec\":{\"dnsConfig\":{\"searches\":[\"a\",\"b.\",\"c\",\"d\",\"e\",\"f\",\"g\"]}}}",
     "I spec.dnsConfig.searches: must not have more than 6 search paths"},
    {NULL, "{\"spec\":{\"dnsConfig\":{\"options\":[{\"value\":\"1\"}]}}}",
     "R spec.dnsConfig.options[0]: Option.Name must not be empty for value: 1"},
    /* credentials */
    {NULL, "{\"spec\":{\"accessCredentials\":[{}]}}",
     "I spec.accessCredentials[0]: spec.accessCredentials[0] must have exactly one access credential type set"},
    {NULL, "{\"spec\":{\"accessCredentials\":[{\"sshPublicKey\":{\"source\":{},\"propagationMethod\":{}}}]}}",
     "I spec.accessCredentials[0].sshPublicKey.source: spec.accessCredentials[0].sshPublicKey.source must have "
     "exactly one source set\n"
     "I spec.accessCredentials[0].sshPublicKey.propagationMethod: spec.accessCredentials[0].sshPublicKey.propag"
     "ationMethod must have exactly one propagationMethod set"},
    {NULL,
     "{\"spec\":{\"accessCredentials\":[{\"sshPublicKey\":{\"source\":{\"secret\":{\"secretName\":\"s\"}},\"propagationMethod\""
     ":{\"noCloud\":{}}}}]}}",
     "I spec.accessCredentials[0].sshPublicKey.propagationMethod: spec.accessCredentials[0].sshPublicKey.propag"
     "ationMethod requires a noCloud volume to exist when the noCloud propagationMethod is in use."},
    {NULL,
     "{\"spec\":{\"accessCredentials\":[{\"sshPublicKey\":{\"source\":{\"secret\":{\"secretName\":\"s\"}},\"propagationMethod\""
     ":{\"configDrive\":{}}}}]}}",
     "I spec.accessCredentials[0].sshPublicKey.propagationMethod: spec.accessCredentials[0].sshPublicKey.propag"
     "ationMethod requires a configDrive volume to exist when the configDrive propagationMethod is in use."},
    {NULL,
     "{\"spec\":{\"accessCredentials\":[{\"sshPublicKey\":{\"source\":{\"secret\":{\"secretName\":\"s\"}},\"propagationMethod\""
     ":{\"qemuGuestAgent\":{\"users\":[]}}}}]}}",
     "I spec.accessCredentials[0].sshPublicKey.propagationMethod.qemuGuestAgent.users: spec.accessCredentials[0"
     "].sshPublicKey.propagationMethod.qemuGuestAgent.users requires at least one user to be present in the use"
     "rs list"},
    {NULL, "{\"spec\":{\"utilityVolumes\":[{\"name\":\"u\",\"claimName\":\"c\"}]}}",
     "I spec.utilityVolumes: UtilityVolumes feature gate is not enabled"},
    {GATES(GATE(UtilityVolumes)), "{\"spec\":{\"utilityVolumes\":[{\"name\":\"u\",\"claimName\":\"c\"}]}}",
     "I spec.utilityVolumes: cannot create VMI with utility volumes in spec, utility volumes can only be added "
     "via hotplug"},
    /* resources and memory */
    {NULL,
     "{\"spec\":{\"domain\":{\"resources\":{\"requests\":{\"memory\":\"-64Mi\",\"cpu\":\"-1\"},\"limits\":{\"cpu\":\"-1\"}}}}}",
     "I spec.domain.resources.requests.memory: spec.domain.resources.requests.memory '-64Mi': must be greater t"
     "han or equal to 0.\n"
     "I spec.domain.resources.requests.cpu: spec.domain.resources.requests.cpu '-1': must be greater than or eq"
     "ual to 0.\n"
     "I spec.domain.resources.limits.cpu: spec.domain.resources.limits.cpu '-1': must be greater than or equal " "to 0."},
    {NULL, "{\"spec\":{\"domain\":{\"resources\":{\"requests\":{\"memory\":\"64Ki\"}}}}}",
     "I spec.domain.resources.requests.memory: spec.domain.resources.requests.memory '64Ki': must be greater th"
     "an or equal to 1M."},
    {NULL,
     "{\"spec\":{\"domain\":{\"resources\":{\"requests\":{\"memory\":\"128Mi\",\"cpu\":2},\"limits\":{\"memory\":\"65Mi\",\"cpu\":\"1\""
     "}}}}}", "I spec.domain.resources.requests.memory: spec.domain.resources.requests.memory '128Mi' is greater than sp"
     "ec.domain.resources.limits.memory '65Mi'\n"
     "I spec.domain.resources.requests.cpu: spec.domain.resources.requests.cpu '2' is greater than spec.domain."
     "resources.limits.cpu '1'"},
    {NULL, "{\"spec\":{\"domain\":{\"memory\":{\"guest\":null}}}}",
     "R spec.domain.memory.guest: no memory requested, at least one of 'spec.domain.memory.guest', 'spec.domain"
     ".memory.hugepages.pageSize' or 'spec.domain.resources.requests.memory' must be set"},
    {NULL, "{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"0\"}}}}",
     "I spec.domain.memory.guest: spec.domain.memory.guest '0': must be greater than 0."},
    {NULL, "{\"spec\":{\"domain\":{\"memory\":{\"hugepages\":{\"pageSize\":\"x\"}}}}}",
     "I spec.domain.memory.hugepages.pageSize: spec.domain.memory.hugepages.pageSize 'x': quantities must match"
     " the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"},
    {NULL, "{\"spec\":{\"domain\":{\"memory\":{\"hugepages\":{\"pageSize\":\"1Gi\"}}}}}",
     "I spec.domain.memory.guest: spec.domain.memory.guest '64Mi' must be equal to or larger than page size spe"
     "c.domain.memory.hugepages.pageSize '1Gi'"},
    {NULL, "{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"63Mi\",\"hugepages\":{\"pageSize\":\"2Mi\"}}}}}",
     "I spec.domain.memory.guest: spec.domain.memory.guest '63Mi' is not a multiple of the page size spec.domai"
     "n.memory.hugepages.pageSize '2Mi'"},
    {NULL, "{\"spec\":{\"domain\":{\"resources\":{\"limits\":{\"memory\":\"32Mi\"}}}}}",
     "I spec.domain.memory.guest: spec.domain.memory.guest '64Mi' must be equal to or less than the memory limi"
     "t spec.domain.resources.limits.memory '32Mi'"},
    {NULL, "{\"spec\":{\"domain\":{\"memory\":{\"maxGuest\":\"1Gi\"}}}}",
     "I spec.domain.memory.guest: Memory hotplug is only available for VMs with at least 1Gi of guest memory"},
    {NULL, "{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"2Gi\",\"maxGuest\":\"1025Mi\"}}}}",
     "I spec.domain.memory.guest: Guest memory is greater than the configured maxGuest memory\n"
     "I spec.domain.memory.maxGuest: MaxGuest must be 2Mi aligned"},
    {NULL, "{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"2Gi\",\"maxGuest\":\"4Gi\"},\"cpu\":{\"realtime\":{}}}}}",
     "I spec.domain.memory.guest: Memory hotplug is not compatible with realtime VMs\n"
     "R spec.domain.cpu.dedicatedCpuPlacement: spec.domain.cpu.dedicatedCpuPlacement must be set to true when s"
     "pec.domain.cpu.realtime is used\n"
     "R spec.domain.cpu.numa.guestMappingPassthrough: spec.domain.cpu.numa.guestMappingPassthrough must be defi"
     "ned when spec.domain.cpu.realtime is used"},
    /* machine and processors */
    {NULL, "{\"spec\":{\"domain\":{\"machine\":{\"type\":\"pc\"}}}}",
     "I spec.domain.machine.type: spec.domain.machine.type is not supported: pc (allowed values: [q35* pc-q35*]" ")"},
    {"{\"emulatedMachines\":[\"pc*\"]}", "{\"spec\":{\"domain\":{\"machine\":{\"type\":\"pc\"}}}}", ""},
    {NULL, "{\"spec\":{\"architecture\":\"vax\"}}", "I spec.architecture: unsupported architecture: vax"},
    {NULL, "{\"spec\":{\"architecture\":\"s390x\"}}",
     "N spec.architecture: not supported by this release: machines here are amd64"},
    {NULL, "{\"spec\":{\"domain\":{\"cpu\":{\"sockets\":4,\"maxSockets\":2}}}}",
     "I spec.domain.cpu.maxSockets: Number of sockets in CPU topology is greater than the maximum sockets allow" "ed"},
    {NULL, "{\"spec\":{\"domain\":{\"cpu\":{\"features\":[{\"name\":\"a\"},{\"name\":\"b\",\"policy\":\"maybe\"}]}}}}",
     "N spec.domain.cpu.features[1].policy: CPU feature b uses policy maybe that is not supported."},
    {NULL, "{\"spec\":{\"domain\":{\"cpu\":{\"isolateEmulatorThread\":true}}}}",
     "I spec.domain.cpu.isolateEmulatorThread: IsolateEmulatorThread should be only set in combination with Ded"
     "icatedCPUPlacement"},
    {NULL,
     "{\"spec\":{\"domain\":{\"cpu\":{\"dedicatedCpuPlacement\":true,\"cores\":1,\"threads\":4},\"resources\":{\"requests\":{\"c"
     "pu\":\"1500m\"},\"limits\":{\"cpu\":\"2\"}}}}}",
     "I spec.domain.resources.requests.cpu: provided resources CPU requests must be an interger\n"
     "I spec.domain.cpu.dedicatedCpuPlacement: spec.domain.resources.requests.cpu or spec.domain.resources.limi"
     "ts.cpu must be equal when DedicatedCPUPlacement is true \n"
     "I spec.domain.cpu.threads: Not more than two threads must be provided at spec.domain.cpu.threads (got 4) "
     "when DedicatedCPUPlacement is true"},
    {NULL, "{\"spec\":{\"domain\":{\"cpu\":{\"dedicatedCpuPlacement\":true,\"sockets\":1}}}}",
     "I spec.domain.cpu.dedicatedCpuPlacement: either spec.domain.resources.requests.cpu or spec.domain.resourc"
     "es.limits.cpu or spec.domain.cpu.cores must be provided when DedicatedCPUPlacement is true "},
    {NULL, "{\"spec\":{\"domain\":{\"cpu\":{\"dedicatedCpuPlacement\":true,\"cores\":2}}}}",
     "N spec.domain.cpu.dedicatedCpuPlacement: not supported by this release: vCPUs are not pinned to host CPUs yet"},
    {NULL, "{\"spec\":{\"domain\":{\"cpu\":{\"cores\":1,\"numa\":{\"guestMappingPassthrough\":{}}}}}}",
     "I spec.domain.cpu.numa.guestMappingPassthrough: spec.domain.cpu.dedicatedCpuPlacement must be set to true"
     " when NUMA topology strategy is set in spec.domain.cpu.numa.guestMappingPassthrough\n"
     "I spec.domain.cpu.numa.guestMappingPassthrough: spec.domain.memory.hugepages must be requested when NUMA "
     "topology strategy is set in spec.domain.cpu.numa.guestMappingPassthrough"},
    {NULL, "{\"spec\":{\"domain\":{\"ioThreadsPolicy\":\"many\"}}}",
     "I spec.domain.ioThreadsPolicy: Invalid IOThreadsPolicy (many)"},
    {NULL, "{\"spec\":{\"domain\":{\"ioThreadsPolicy\":\"supplementalPool\"}}}",
     "I spec.domain.ioThreadsPolicy: the number of iothreads needs to be set and positive for the dedicated pol" "icy"},
    /* firmware and features */
    {NULL, "{\"spec\":{\"domain\":{\"firmware\":{\"bootloader\":{\"efi\":{\"secureBoot\":false},\"bios\":{}}}}}}",
     "I spec.domain.firmware.bootloader: spec.domain.firmware.bootloader has both EFI and BIOS configured, but "
     "they are mutually exclusive."},
    {NULL, "{\"spec\":{\"domain\":{\"firmware\":{\"bootloader\":{\"efi\":{}}}}}}",
     "I spec.domain: spec.domain has EFI SecureBoot enabled. SecureBoot requires SMM, which is currently disabl" "ed."},
    {NULL, "{\"spec\":{\"domain\":{\"firmware\":{\"acpi\":{}}}}}",
     "I spec.domain.firmware.acpi: ACPI was set but no SLIC nor MSDM volume reference was set"},
    {NULL, "{\"spec\":{\"domain\":{\"firmware\":{\"kernelBoot\":{\"kernelArgs\":\"quiet\"}}}}}",
     "I spec.domain.firmware.kernelBoot.kernelArgs: kernel arguments cannot be provided without an external ker" "nel"},
    {NULL, "{\"spec\":{\"domain\":{\"firmware\":{\"kernelBoot\":{\"container\":{\"image\":\"x\"}}}}}}",
     "I spec.domain.firmware.kernelBoot.container: spec.domain.firmware.kernelBoot.container must be defined wi"
     "th at least one of the following: kernelPath, initrdPath"},
    {NULL, "{\"spec\":{\"domain\":{\"firmware\":{\"kernelBoot\":{\"container\":{\"kernelPath\":\"k\"}}}}}}",
     "I spec.domain.firmware.kernelBoot.container.image: spec.domain.firmware.kernelBoot.container.image is a r"
     "equired field\n"
     "I spec.domain.firmware.kernelBoot.container.kernelPath: spec.domain.firmware.kernelBoot.container.kernelP"
     "ath must be an absolute path to a file without relative elements"},
    {NULL, "{\"spec\":{\"domain\":{\"features\":{\"hyperv\":{\"synic\":{},\"vpindex\":{\"enabled\":false}}}}}}",
     "I spec.domain.features.hyperv.synic: 'spec.domain.features.hyperv.synic' requires 'spec.domain.features.h"
     "yperv.vpindex', which was disabled."},
    {NULL, "{\"spec\":{\"domain\":{\"features\":{\"hyperv\":{},\"hypervPassthrough\":{}}}}}",
     "I spec.domain.features.hyperv: Cannot explicitly set hyperV features if HypervPassthrough is being used. "
     "Please use either HyperV or HypervPassthrough."},
    {NULL, "{\"spec\":{\"domain\":{\"launchSecurity\":{\"sev\":{},\"tdx\":{}}}}}",
     "F spec.domain.launchSecurity: One and only one launchSecurity type can be set\n"
     "I spec.domain.launchSecurity: WorkloadEncryptionSEV feature gate is not enabled in kubevirt-config\n"
     "I spec.domain.launchSecurity: WorkloadEncryptionTDX feature gate is not enabled in kubevirt-config"},
    {GATES(GATE(WorkloadEncryptionTDX)), "{\"spec\":{\"domain\":{\"launchSecurity\":{\"tdx\":{}}}}}",
     "N spec.domain.launchSecurity: not supported by this release: confidential machines are not started yet"},
    {NULL, "{\"spec\":{\"domain\":{\"rebootPolicy\":\"Terminate\"}}}",
     "I spec.domain.rebootPolicy: RebootPolicy is specified but the RebootPolicy feature gate is not enabled"},
    {GATES(GATE(RebootPolicy)), "{\"spec\":{\"domain\":{\"rebootPolicy\":\"Terminate\"}}}", ""},
    {NULL, "{\"spec\":{\"domain\":{\"memory\":{\"reservedOverhead\":{\"memLock\":\"Required\"}}}}}",
     "I spec.domain.memory.reservedOverhead.memLock: Reserved overhead memlock feature gate is not enabled in k"
     "ubevirt-config"},
    /* volumes */
    {NULL,
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"emptyDisk\":{\"capacity\":\"1Gi\"}},{\"name\":\"a\",\"emptyDisk\":{\"capacity\":\"1Gi\""
     "}}]}}", "I spec.volumes[1].name: spec.volumes[1] and spec.volumes[0] must not have the same Name."},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\"}]}}",
     "I spec.volumes[0]: spec.volumes[0] must have exactly one source type set"},
    {NULL,
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"emptyDisk\":{\"capacity\":\"1Gi\"},\"secret\":{\"secretName\":\"s\"}}]}}",
     "I spec.volumes[0]: spec.volumes[0] must have exactly one source type set"},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"A\",\"emptyDisk\":{\"capacity\":\"1Gi\"}}]}}",
     "I spec.volumes[0].name: a lowercase RFC 1123 label must consist of lower case alphanumeric characters or "
     "'-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for"
     " validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')\n"
     "I spec.domain.devices.disks[0].name: a lowercase RFC 1123 label must consist of lower case alphanumeric c"
     "haracters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', r"
     "egex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"cloudInitNoCloud\":{\"userData\":\"" LONG_2049 "\"}}]}}",
     "I spec.volumes[0].cloudInitNoCloud: spec.volumes[0].cloudInitNoCloud userdata exceeds 2048 byte limit. Sh"
     "ould use UserDataSecretRef for larger data."},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"cloudInitNoCloud\":{\"networkData\":\"" LONG_2049 "\"}}]}}",
     "I spec.volumes[0].cloudInitNoCloud: spec.volumes[0].cloudInitNoCloud networkdata exceeds 2048 byte limit."
     " Should use NetworkDataSecretRef for larger data."},
    {NULL,
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"cloudInitNoCloud\":{\"userData\":\"x\",\"secretRef\":{\"name\":\"s\"}}}]}}",
     "I spec.volumes[0].cloudInitNoCloud: spec.volumes[0].cloudInitNoCloud must have only one userdatasource se" "t."},
    {NULL,
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"cloudInitNoCloud\":{\"userData\":\"x\",\"networkData\":\"x\",\"networkDataBase64\":"
     "\"eA==\"}}]}}",
     "I spec.volumes[0].cloudInitNoCloud: spec.volumes[0].cloudInitNoCloud must have only one networkdata sourc" "e set."},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"cloudInitConfigDrive\":{}}]}}",
     "I spec.volumes[0].cloudInitConfigDrive: spec.volumes[0].cloudInitConfigDrive must have at least one userd"
     "atasource or one networkdatasource set."},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"cloudInitNoCloud\":{\"userDataBase64\":\"%%%\"}}]}}",
     "I spec.volumes[0].cloudInitNoCloud.userDataBase64: spec.volumes[0].cloudInitNoCloud.userDataBase64 is not"
     " a valid base64 value."},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"hostDisk\":{\"path\":\"/x\",\"type\":\"Disk\"}}]}}",
     "I spec.volumes[0]: HostDisk feature gate is not enabled"},
    {GATES(GATE(HostDisk)),
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"hostDisk\":{\"path\":\"\",\"type\":\"disk\",\"capacity\":\"1Gi\"}}]}}",
     "I spec.volumes[0].hostDisk.path: spec.volumes[0].hostDisk.path is required for hostDisk volume\n"
     "I spec.volumes[0].hostDisk.type: spec.volumes[0].hostDisk.type has invalid value 'disk', allowed are 'Dis"
     "k' or 'DiskOrCreate'\n"
     "I spec.volumes[0].hostDisk.capacity: spec.volumes[0].hostDisk.capacity is allowed to pass only with spec."
     "volumes[0].hostDisk.type equal to 'DiskOrCreate'"},
    {NULL,
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"configMap\":{}},{\"name\":\"b\",\"secret\":{}},{\"name\":\"c\",\"serviceAccount\":{}}"
     "]}}", "I spec.volumes[0].configMap.name: spec.volumes[0].configMap.name is a required field\n"
     "I spec.volumes[1].secret.secretName: spec.volumes[1].secret.secretName is a required field\n"
     "I spec.volumes[2].serviceAccount.serviceAccountName: spec.volumes[2].serviceAccount.serviceAccountName is"
     " a required field"},
    {NULL,
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"serviceAccount\":{\"serviceAccountName\":\"x\"}},{\"name\":\"b\",\"serviceAccount\""
     ":{\"serviceAccountName\":\"x\"}}]}}", "I spec.volumes: spec.volumes must have max one serviceAccount volume set"},
    {NULL,
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"containerDisk\":{\"image\":\"x\",\"path\":\"a/../b\"}},{\"name\":\"b\",\"containerDisk"
     "\":{\"image\":\"x\",\"path\":\"/\"}}]}}",
     "I spec.volumes[0].containerDisk.path: spec.volumes[0].containerDisk.path must be an absolute path to a fi"
     "le without relative elements\n"
     "I spec.volumes[1].containerDisk.path: spec.volumes[1].containerDisk.path must not point to root"},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"emptyDisk\":{\"capacity\":\"1Ki\"}}]}}",
     "I spec.volumes[0].emptyDisk.capacity: spec.volumes[0].emptyDisk.capacity '1Ki': must be greater than or e"
     "qual to 1Mi."},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"containerPath\":{\"path\":\"/var/run/kubevirt/x\"}}]}}",
     "I spec.volumes[0]: ContainerPath volume 'a' must be mapped to a filesystem, not a disk\n"
     "I spec.volumes[0].containerPath.path: ContainerPath volume 'a' uses reserved path prefix '/var/run/kubevi" "rt'"},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"dataVolume\":{\"name\":\"\"}}]}}",
     "I spec.volumes[0].name: DataVolume 'name' must be set"},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"sysprep\":{}}]}}",
     "I spec.volumes[0]: spec.volumes[0].sysprep must have exactly one of configMap and secret set"},
    /* disks */
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{}}]}}}}",
     "I spec.domain.devices.disks[0].name: spec.domain.devices.disks[0].Name 'a' not found."},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"cdrom\":{}}]}}}}",
     "I spec.domain.devices.disks[0]: DeclarativeHotplugVolumes feature gate not enabled, cannot define an empt"
     "y CD-ROM disk"},
    {GATES(GATE(DeclarativeHotplugVolumes)),
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"cdrom\":{}}]}}}}", ""},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\"},{\"name\":\"a\"}]}},\"volumes\":[{\"name\":\"a\",\"emptyDisk\":{\""
     "capacity\":\"1Gi\"}}]}}",
     "I spec.domain.devices.disks[1]: spec.domain.devices.disks[1] and spec.domain.devices.disks[0] must not ha"
     "ve the same Name."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"virtio\"},\"lun\":{\"bus\":\"scsi\"}}]}},\"volu"
     "mes\":[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0]: spec.domain.devices.disks[0] can only have a single target type defined"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"bootOrder\":0}]}},\"volumes\":[{\"name\":\"a\",\"persistentVo"
     "lumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].bootOrder: spec.domain.devices.disks[0] must have a boot order > 0, if sup" "plied"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"bootOrder\":1}],\"interfaces\":[{\"name\":\"default\",\"masqu"
     "erade\":{},\"bootOrder\":1}]}},\"networks\":[{\"name\":\"default\",\"pod\":{}}],\"volumes\":[{\"name\":\"a\",\"emptyDisk\":{"
     "\"capacity\":\"1Gi\"}}]}}",
     "I spec.domain.devices.interfaces[0].bootOrder: Boot order for spec.domain.devices.interfaces[0].bootOrder"
     " already set for a different device."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"ide\"}}]}},\"volumes\":[{\"name\":\"a\",\"persi"
     "stentVolumeClaim\":{\"claimName\":\"c\"}}]}}", "I spec.domain.devices.disks[0].disk.bus: IDE bus is not supported"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"cdrom\":{\"bus\":\"virtio\"}}]}},\"volumes\":[{\"name\":\"a\",\"p"
     "ersistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].cdrom.bus: Bus type virtio is invalid for CD-ROM device"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"sata\",\"readonly\":true}}]}},\"volumes\":[{"
     "\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].disk.bus: sata hard-disks do not support read-only."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"nvme\"}}]}},\"volumes\":[{\"name\":\"a\",\"pers"
     "istentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].disk.bus: spec.domain.devices.disks[0].disk.bus is set with an unrecognize"
     "d bus nvme, must be one of: [virtio sata scsi usb]"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"lun\":{\"bus\":\"scsi\"}}]}},\"volumes\":[{\"name\":\"a\",\"empty"
     "Disk\":{\"capacity\":\"1Gi\"}}]}}",
     "I spec.domain.devices.disks[0].lun: spec.domain.devices.disks[0].lun can only be mapped to a DataVolume o"
     "r PersistentVolumeClaim volume."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"serial\":\"a b\"}]}},\"volumes\":[{\"name\":\"a\",\"persistentV"
     "olumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].serial: spec.domain.devices.disks[0].serial must be made up of the followi"
     "ng characters [A-Za-z0-9_.+-], if specified"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"serial\":\"" LONG_257
     "\"}]}},\"volumes\":[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].serial: spec.domain.devices.disks[0].serial must be less than or equal to "
     "256 in length, if specified"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"dedicatedIOThread\":true,\"disk\":{\"bus\":\"sata\"}}]}},\"vo"
     "lumes\":[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].disk.bus: IOThreads are not supported for disks on a sata bus"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"io\":\"fast\"}]}},\"volumes\":[{\"name\":\"a\",\"persistentVolu"
     "meClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].io: Disk IO mode for spec.domain.devices.disks[0].io is not supported. Sup"
     "ported modes are: native, threads."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"cache\":\"fast\"}]}},\"volumes\":[{\"name\":\"a\",\"persistentV"
     "olumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].cache: spec.domain.devices.disks[0].cache has invalid value fast"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"errorPolicy\":\"pray\"}]}},\"volumes\":[{\"name\":\"a\",\"persi"
     "stentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].errorPolicy: spec.domain.devices.disks[0].errorPolicy has invalid value \"p" "ray\""},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"blockSize\":{\"custom\":{\"logical\":256,\"physical\":419430"
     "4},\"matchVolume\":{}},\"disk\":{\"bus\":\"virtio\"}}]}},\"volumes\":[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimNa"
     "me\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].blockSize: Block size matching can't be enabled together with a custom val" "ue\n"
     "I spec.domain.devices.disks[0].blockSize.custom.logical: Provided size of 256 is less than the supported "
     "minimum size of 512\n"
     "I spec.domain.devices.disks[0].blockSize.custom.physical: Provided size of 4194304 is greater than the su"
     "pported maximum size of 2097152"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"blockSize\":{\"custom\":{\"logical\":4096,\"physical\":1536}"
     "},\"disk\":{\"bus\":\"virtio\"}}]}},\"volumes\":[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].blockSize.custom.physical: Provided size of 1536 is not a power of 2\n"
     "I spec.domain.devices.disks[0].blockSize.custom.logical: Logical size 4096 must be the same or less than "
     "the physical size of 1536"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"blockSize\":{\"custom\":{\"logical\":512,\"physical\":4096,\""
     "discardGranularity\":4096}}}]}},\"volumes\":[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     ""},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"sata\",\"pciAddress\":\"0000:00:05.0\"}}]}},"
     "\"volumes\":[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].disk.pciAddress: disk a - setting a PCI address is only possible with bus "
     "type virtio."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"virtio\",\"pciAddress\":\"0:0\"}}]}},\"volume"
     "s\":[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].disk.pciAddress: disk a has malformed PCI address (0:0)."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"disk\":{\"bus\":\"virtio\",\"pciAddress\":\"0000:81:01.0\"}}]}"
     "},\"volumes\":[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "N spec.domain.devices.disks[0].disk.pciAddress: not supported by this release: only addresses on the root bus "
     "(0000:00:) can be chosen"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"lun\":{\"bus\":\"scsi\",\"reservation\":true}}]}},\"volumes\":"
     "[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.disks[0].lun.reservation: PersistentReservation feature gate is not enabled in kube"
     "virt-config"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"filesystems\":[{\"name\":\"f\",\"virtiofs\":{}}]}}}}",
     "I spec.domain.devices.filesystems[0].name: spec.domain.devices.filesystems[0].name 'f' not found."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"filesystems\":[{\"name\":\"f\",\"virtiofs\":{}}]}},\"volumes\":[{\"name\":\"f\",\"persis"
     "tentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "I spec.domain.devices.filesystems[0].name: virtiofs is not allowed: virtiofs feature gate is not enabled "
     "for PVC"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"filesystems\":[{\"name\":\"f\",\"virtiofs\":{}}]}},\"volumes\":[{\"name\":\"f\",\"config"
     "Map\":{\"name\":\"c\"}}]}}",
     "N spec.domain.devices.filesystems: not supported by this release: filesystems are not shared by virtiofs yet; use a "
     "disk"},
    /* networks */
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{}}]}},\"networks\":[{\"name\":\"a\",\"pod\""
     ":{}}]}}", ""},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{}}]}}}}",
     "I spec.domain.devices.interfaces[0].name: spec.domain.devices.interfaces[0].name 'a' not found."},
    {NULL, "{\"spec\":{\"networks\":[{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.networks[0].name: spec.networks[0].name 'a' not found."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{}},{\"name\":\"a\",\"bridge\":{}}]}},\"network"
     "s\":[{\"name\":\"a\",\"multus\":{\"networkName\":\"x\"}}]}}",
     "I spec.domain.devices.interfaces[1].name: Only one interface can be connected to one specific network"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{}}]}},\"networks\":[{\"name\":\"a\",\"pod\":{}}"
     ",{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.networks[1].name: Network with name \"a\" already exists, every network must have a unique name"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{}},{\"name\":\"b\",\"masquerade\":{}}]}},\"net"
     "works\":[{\"name\":\"a\",\"pod\":{}},{\"name\":\"b\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces: more than one interface is connected to a pod network in spec.domain.de"
     "vices.interfaces"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"model\":\"ne2000\"}]}},\"networks\":["
     "{\"name\":\"a\",\"pod\":{}}]}}",
     "N spec.domain.devices.interfaces[0].model: interface a uses model ne2000 that is not supported."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{}}]}},\"networks\":[{\"name\":\"a\",\"mult"
     "us\":{\"networkName\":\"x\"}}]}}",
     "I spec.domain.devices.interfaces[0].name: Masquerade interface only implemented with pod network"},
    {"{\"network\":{\"permitBridgeInterfaceOnPodNetwork\":false}}",
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{}}]}},\"networks\":[{\"name\":\"a\",\"pod\":{}}"
     "]}}", "I spec.domain.devices.interfaces[0].name: Bridge on pod network configuration is not enabled under kubevi"
     "rt-config"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"slirp\":{}}]}},\"networks\":[{\"name\":\"a\",\"pod\":{}}]"
     "}}", "I spec.domain.devices.interfaces[0].slirp: Slirp interface support has been discontinued since v1.3"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"macvtap\":{}}]}},\"networks\":[{\"name\":\"a\",\"pod\":{}"
     "}]}}", "I spec.domain.devices.interfaces[0].macvtap: Macvtap network binding has been discontinued since v1.3"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"passt\":{}}]}},\"networks\":[{\"name\":\"a\",\"pod\":{}}]"
     "}}", "I spec.domain.devices.interfaces[0].passt: Passt network binding has been discontinued since v1.3"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"passtBinding\":{}}]}},\"networks\":[{\"name\":\"a\",\"po"
     "d\":{}}]}}", "I spec.domain.devices.interfaces[0].passtBinding: PasstBinding feature gate is not enabled"},
    {GATES(GATE(PasstBinding)),
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"passtBinding\":{}}]}},\"networks\":[{\"name\":\"a\",\"po"
     "d\":{}}]}}",
     "N spec.domain.devices.interfaces[0].passtBinding: not supported by this release: use masquerade: {} or bridge: {}"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{},\"binding\":{\"name\":\"x\"}}]}},\"networks\""
     ":[{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces[0].binding: logical a interface cannot have both binding plugin and inte"
     "rface binding method"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{},\"masquerade\":{}}]}},\"networks\":[{\"nam"
     "e\":\"a\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces[0]: logical a interface can only have one binding method"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a.b\",\"bridge\":{}}]}},\"networks\":[{\"name\":\"a.b\",\"pod\""
     ":{}}]}}", "I spec.domain.devices.interfaces[0].name: Network interface name can only contain alphabetical characters"
     ", numbers, dashes (-) or underscores (_)"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"macAddress\":\"de:ad\"}]}},\"network"
     "s\":[{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces[0].macAddress: interface a has malformed MAC address (de:ad)."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"macAddress\":\"de:ad:be:ef:00:00:0"
     "0:00\"}]}},\"networks\":[{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces[0].macAddress: interface a has too long MAC address (de:ad:be:ef:00:00:0" "0:00)."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"macAddress\":\"02:00:00:00:00:00\"}"
     "]}},\"networks\":[{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces[0].macAddress: The requested MAC address is reserved for the in-pod brid"
     "ge. Please choose another one."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"macAddress\":\"DE-AD-00-00-BE-AF\"}"
     "]}},\"networks\":[{\"name\":\"a\",\"pod\":{}}]}}", ""},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"pciAddress\":\"x\"}]}},\"networks\":["
     "{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces[0].pciAddress: interface a has malformed PCI address (x)."},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"pciAddress\":\"0000:00:1f.7\"}]}},\""
     "networks\":[{\"name\":\"a\",\"pod\":{}}]}}", ""},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"ports\":[{\"name\":\"x\",\"port\":80},{"
     "\"name\":\"x\",\"port\":70000},{\"protocol\":\"SCTP\"}]}]}},\"networks\":[{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces[0].ports[1]: Port field must be in range 0 < x < 65536.\n"
     "I spec.domain.devices.interfaces[0].ports[1].name: Duplicate name of the port: x\n"
     "R spec.domain.devices.interfaces[0].ports[2]: Port field is mandatory.\n"
     "I spec.domain.devices.interfaces[0].ports[2].protocol: Unknown protocol, only TCP or UDP allowed"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"dhcpOptions\":{\"ntpServers\":[\"::1"
     "\"],\"privateOptions\":[{\"option\":10,\"value\":\"x\"},{\"option\":224,\"value\":\"x\"},{\"option\":224,\"value\":\"y\"}]}}]}"
     "},\"networks\":[{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces[0].dhcpOptions.ntpServers: NTP servers must be a list of valid IPv4 addr" "esses.\n"
     "I spec.domain.devices.interfaces[0].dhcpOptions.privateOptions[0]: provided DHCPPrivateOptions are out of"
     " range, must be in range 224 to 254\n"
     "I spec.domain.devices.interfaces[0].dhcpOptions.privateOptions[2]: Found Duplicates: you have provided du"
     "plicate DHCPPrivateOptions"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"state\":\"sleeping\"}]}},\"networks\""
     ":[{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces[0].state: logical a interface state value is unsupported: sleeping"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"state\":\"absent\"}]}},\"networks\":["
     "{\"name\":\"a\",\"pod\":{}}]}}",
     "I spec.domain.devices.interfaces[0].state: logical a interface state absent is only supported for seconda"
     "ry networks with bridge binding"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"masquerade\":{},\"state\":\"down\"}]}},\"networks\":[{\""
     "name\":\"a\",\"pod\":{}}]}}", ""},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{}}]}},\"networks\":[{\"name\":\"a\",\"x\":{}}]}"
     "}", "R spec.networks[0]: should have a network type"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{}}]}},\"networks\":[{\"name\":\"a\",\"pod\":{},"
     "\"multus\":{\"networkName\":\"n\"}}]}}", "R spec.networks[0]: should have only one network type"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{}}]}},\"networks\":[{\"name\":\"a\",\"multus\":"
     "{}}]}}", "R spec.networks[0]: CNI delegating plugin must have a networkName"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{}},{\"name\":\"b\",\"bridge\":{}}]}},\"network"
     "s\":[{\"name\":\"a\",\"pod\":{}},{\"name\":\"b\",\"multus\":{\"networkName\":\"n\",\"default\":true}}]}}",
     "I spec.networks: Pod network cannot be defined when Multus default network is defined"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{}},{\"name\":\"b\",\"bridge\":{}}]}},\"network"
     "s\":[{\"name\":\"a\",\"multus\":{\"networkName\":\"n\",\"default\":true}},{\"name\":\"b\",\"multus\":{\"networkName\":\"n\",\"def"
     "ault\":true}}]}}", "I spec.networks: Multus CNI should only have one default network"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"bridge\":{}}]}},\"networks\":[{\"name\":\"a\",\"multus\":"
     "{\"networkName\":\"n\"}}]}}",
     "N spec.networks[0].multus: not supported by this release: there is only the pod network here: give the network pod: {}"},
    /* other devices */
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"inputs\":[{\"name\":\"a\",\"bus\":\"ps2\",\"type\":\"tablet\"},{\"name\":\"b\",\"type\":\"mous"
     "e\"}]}}}}", "I spec.domain.devices.inputs[0].bus: Input device can have only virtio or usb bus.\n"
     "I spec.domain.devices.inputs[1].type: Input device can have only tablet type."},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"sound\":{\"name\":\"s\",\"model\":\"sb16\"}}}}}",
     "I spec.domain.devices.sound: Sound device type is not supported. Options: 'ich9' or 'ac97'"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"sound\":{}}}}}",
     "I spec.domain.devices.sound: Sound device requires a name field."},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"video\":{\"type\":\"vga\"}}}}}",
     "I spec.domain.devices.video: Video configuration is specified but the VideoConfig feature gate is not ena" "bled"},
    {GATES(GATE(VideoConfig)), "{\"spec\":{\"domain\":{\"devices\":{\"video\":{\"type\":\"qxl\"}}}}}",
     "N spec.domain.devices.video.type: video model 'qxl' is not supported on amd64 architecture"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"watchdog\":{\"name\":\"w\",\"diag288\":{}}}}}}",
     "N spec.domain.devices.watchdog: amd64 only supports I6300ESB watchdog device"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"watchdog\":{\"name\":\"w\",\"i6300esb\":{\"action\":\"bark\"}}}}}}",
     "I spec.domain.devices.watchdog.i6300esb.action: spec.domain.devices.watchdog.i6300esb.action has invalid "
     "value 'bark'"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"panicDevices\":[{\"model\":\"isa\"}]}}}}",
     "I spec.domain.devices.panicDevices: Panic Devices feature gate is not enabled in kubevirt-config"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"hostDevices\":[{\"name\":\"h\",\"deviceName\":\"x/y\"}]}}}}",
     "I spec.domain.devices.hostDevices: Host Devices feature gate is not enabled in kubevirt-config"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"downwardMetrics\":{}}}}}",
     "I spec.domain.devices.downwardMetrics: downwardMetrics virtio serial is not allowed: DownwardMetrics feat"
     "ure gate is not enabled"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"autoattachVSOCK\":true}}}}",
     "I spec.domain.devices.autoattachVSOCK: VSOCK feature gate is not enabled in kubevirt-config"},
    /* metadata */
    {NULL, "{\"metadata\":{\"labels\":{\"kubevirt.io/created-by\":\"me\"}}}",
     "N metadata.labels: creation of the following reserved kubevirt.io/ labels on a VMI object is prohibited"},
    {NULL, "{\"metadata\":{\"annotations\":{\"kubevirt.io/ignitiondata\":\"{}\"}}}",
     "I metadata.annotations.kubevirt.io/ignitiondata: ExperimentalIgnitionSupport feature gate is not enabled "
     "in kubevirt-config, invalid entry metadata.annotations.kubevirt.io/ignitiondata"},
    {NULL, "{\"metadata\":{\"annotations\":{\"hooks.kubevirt.io/hookSidecars\":\"[]\"}}}",
     "I metadata.annotations.hooks.kubevirt.io/hookSidecars: sidecar feature gate is not enabled in kubevirt-co"
     "nfig, invalid entry metadata.annotations.hooks.kubevirt.io/hookSidecars"},
    /* what this release cannot do */
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"private\",\"emptyDisk\":{\"capacity\":\"1Gi\"}}]}}",
     "N spec.volumes[0].name: not supported by this release: the launcher pod has a volume of that name; choose another"},
    {NULL,
     "{\"spec\":{\"accessCredentials\":[{\"userPassword\":{\"source\":{\"secret\":{\"secretName\":\"s\"}},\"propagationMethod\""
     ":{\"qemuGuestAgent\":{}}}}]}}",
     "N spec.accessCredentials[0].userPassword: not supported by this release: nothing runs commands or sets credentials "
     "through the guest agent yet"},
    {NULL,
     "{\"spec\":{\"accessCredentials\":[{\"sshPublicKey\":{\"source\":{\"secret\":{\"secretName\":\"s\"}},\"propagationMethod\""
     ":{\"qemuGuestAgent\":{\"users\":[\"u\"]}}}}]}}",
     "N spec.accessCredentials[0].sshPublicKey.propagationMethod.qemuGuestAgent: not supported by this release: nothing "
     "runs commands or sets credentials through the guest agent yet"},
    {NULL,
     "{\"spec\":{\"affinity\":{\"podAntiAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":[{\"topologyKey\":"
     "\"k\"}]}}}}",
     "N spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution: not supported by this release: the "
     "scheduler does not look at other pods yet"},
    {NULL, "{\"spec\":{\"livenessProbe\":{\"tcpSocket\":{\"port\":22}}}}",
     "N spec.livenessProbe: not supported by this release: nothing runs probes yet"},
    {NULL, "{\"spec\":{\"readinessProbe\":{\"guestAgentPing\":{}}}}",
     "N spec.readinessProbe: not supported by this release: nothing runs probes yet"},
    {NULL, "{\"spec\":{\"resourceClaims\":[{\"name\":\"x\"}]}}",
     "N spec.resourceClaims: not supported by this release: resources are not allocated dynamically here"},
    {NULL, "{\"spec\":{\"schedulerName\":\"mine\"}}",
     "N spec.schedulerName: not supported by this release: there is only that scheduler here: default-scheduler"},
    {NULL, "{\"spec\":{\"schedulerName\":\"default-scheduler\"}}", ""},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"containerDisk\":{\"image\":\"x\",\"imagePullSecret\":\"s\"}}]}}",
     ""},
    {NULL,
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"cloudInitNoCloud\":{\"secretRef\":{\"name\":\"s\"}}},"
     "{\"name\":\"a-udata\",\"secret\":{\"secretName\":\"t\"}},{\"name\":\"a-ndata\",\"secret\":{\"secretName\":\"t\"}},"
     "{\"name\":\"k-access-cred\",\"secret\":{\"secretName\":\"t\"}}],\"accessCredentials\":[{\"sshPublicKey\":{\"source\":"
     "{\"secret\":{\"secretName\":\"k\"}},\"propagationMethod\":{\"noCloud\":{}}}}]}}",
     "N spec.volumes[1].name: not supported by this release: the launcher pod has a volume of that name; choose another\n"
     "N spec.volumes[3].name: not supported by this release: the launcher pod has a volume of that name; choose another"},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"dataVolume\":{\"name\":\"d\"}}]}}",
     "N spec.volumes[0].dataVolume: not supported by this release: there are no DataVolumes here yet; make a "
     "PersistentVolumeClaim and use volumes of that kind"},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"downwardAPI\":{}}]}}",
     "N spec.volumes[0].downwardAPI: not supported by this release: the launcher pod does not mount it yet"},
    {GATES(GATE(DownwardMetrics)), "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"downwardMetrics\":{}}]}}",
     "N spec.volumes[0].downwardMetrics: not supported by this release: metrics of the host are not offered to guests yet"},
    {GATES(GATE(HostDisk)), "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"hostDisk\":{\"path\":\"/x\",\"type\":\"Disk\"}}]}}",
     "N spec.volumes[0].hostDisk: not supported by this release: disks at paths of the node are not mounted yet; use a "
     "PersistentVolumeClaim"},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"memoryDump\":{\"claimName\":\"c\"}}]}}",
     "N spec.volumes[0].memoryDump: not supported by this release: memory is not dumped yet"},
    {NULL,
     "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\",\"hotpluggable\":true}}]}}",
     "N spec.volumes[0].persistentVolumeClaim.hotpluggable: not supported by this release: volumes are not plugged in and "
     "out of a running machine yet; leave hotpluggable out"},
    {NULL, "{\"spec\":{\"volumes\":[{\"name\":\"a\",\"serviceAccount\":{\"serviceAccountName\":\"s\"}}]}}",
     "N spec.volumes[0].serviceAccount: not supported by this release: the launcher pod does not mount it yet"},
    {NULL, "{\"spec\":{\"domain\":{\"clock\":{\"timer\":{\"pit\":{\"tickPolicy\":\"catchup\"}}}}}}",
     "N spec.domain.clock.timer.pit.tickPolicy: not supported by QEMU: it knows delay and discard"},
    {NULL, "{\"spec\":{\"domain\":{\"clock\":{\"timer\":{\"rtc\":{\"present\":false}}}}}}",
     "N spec.domain.clock.timer.rtc.present: not supported by QEMU: its boards have that clock"},
    {NULL, "{\"spec\":{\"domain\":{\"firmware\":{\"acpi\":{\"slicNameRef\":\"v\"}}}}}",
     "N spec.domain.firmware.acpi: not supported by this release: tables from Secrets are not loaded yet"},
    {NULL, "{\"spec\":{\"domain\":{\"firmware\":{\"bootloader\":{\"efi\":{\"secureBoot\":false,\"persistent\":true}}}}}}",
     "N spec.domain.firmware.bootloader.efi.persistent: not supported by this release: there is no storage for the "
     "machine's state yet"},
    {NULL,
     "{\"spec\":{\"domain\":{\"ioThreadsPolicy\":\"supplementalPool\",\"ioThreads\":{\"supplementalPoolThreadCount\":2}}}}",
     "N spec.domain.ioThreads.supplementalPoolThreadCount: not supported by this release: it goes with the policy supplementalPool, which "
     "needs a newer QEMU\nN spec.domain.ioThreadsPolicy: not supported by this release: it needs a newer QEMU; use shared or auto"},
    {NULL, "{\"spec\":{\"domain\":{\"memory\":{\"hugepages\":{\"pageSize\":\"2Mi\"}}}}}",
     "N spec.domain.memory.hugepages: not supported by this release: the node offers no huge pages yet"},
    {GATES(GATE(ReservedOverheadMemlock)),
     "{\"spec\":{\"domain\":{\"memory\":{\"reservedOverhead\":{\"memLock\":\"Required\"}}}}}",
     "N spec.domain.memory.reservedOverhead.memLock: not supported by this release: memory is not locked yet"},
    {GATES(GATE(VSOCK)), "{\"spec\":{\"domain\":{\"devices\":{\"autoattachVSOCK\":true}}}}",
     ""},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"clientPassthrough\":{}}}}}",
     "N spec.domain.devices.clientPassthrough: not supported by this release: USB redirection is not offered yet"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"gpus\":[{\"name\":\"g\",\"deviceName\":\"x/y\"}]}}}}",
     "N spec.domain.devices.gpus: not supported by this release: devices of the host are not passed through yet"},
    {GATES(GATE(HostDevices)),
     "{\"spec\":{\"domain\":{\"devices\":{\"hostDevices\":[{\"name\":\"g\",\"deviceName\":\"x/y\"}]}}}}",
     "N spec.domain.devices.hostDevices: not supported by this release: devices of the host are not passed through yet"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"tpm\":{}}}}}",
     "N spec.domain.devices.tpm: not supported by this release: there is no TPM yet"},
    {NULL, "{\"spec\":{\"domain\":{\"devices\":{\"tpm\":{\"enabled\":false}}}}}", ""},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"blockSize\":{\"matchVolume\":{}}}]}},\"volumes\":[{\"name\":"
     "\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "N spec.domain.devices.disks[0].blockSize.matchVolume: not supported by this release: the driver does not ask volumes "
     "for their block size yet; use custom"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"cdrom\":{\"tray\":\"open\"}}]}},\"volumes\":[{\"name\":\"a\",\"pe"
     "rsistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "N spec.domain.devices.disks[0].cdrom.tray: not supported by this release: trays are closed at start"},
    {GATES(GATE(PersistentReservation)),
     "{\"spec\":{\"domain\":{\"devices\":{\"disks\":[{\"name\":\"a\",\"lun\":{\"bus\":\"scsi\",\"reservation\":true}}]}},\"volumes\":"
     "[{\"name\":\"a\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}",
     "N spec.domain.devices.disks[0].lun.reservation: not supported by this release: persistent reservations are not passed "
     "through yet"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"sriov\":{}}]}},\"networks\":[{\"name\":\"a\",\"pod\":{}}]"
     "}}", "N spec.domain.devices.interfaces[0].sriov: not supported by this release: devices of the host are not passed through "
     "yet"},
    {NULL,
     "{\"spec\":{\"domain\":{\"devices\":{\"interfaces\":[{\"name\":\"a\",\"binding\":{\"name\":\"p\"}}]}},\"networks\":[{\"name\":\"a"
     "\",\"pod\":{}}]}}",
     "N spec.domain.devices.interfaces[0].binding: not supported by this release: use masquerade: {} or bridge: {}"},
};

static const struct row vm_rows[] = {
    /* VirtualMachines */
    {NULL,
     "{\"spec\":{\"running\":true,\"template\":{\"spec\":{\"domain\":{\"cpu\":{\"cores\":4},\"memory\":{\"guest\":\"8Gi\"}}}}}}",
     ""},
    {NULL, "{\"spec\":{\"runStrategy\":\"Once\",\"template\":{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"}}}}}}",
     ""},
    {NULL, "{\"spec\":{\"running\":true,\"template\":{\"spec\":{\"domain\":{}}}}}", ""},
    {NULL, "{\"spec\":{\"running\":true}}", "R spec.template: missing virtual machine template."},
    {NULL,
     "{\"spec\":{\"running\":true,\"runStrategy\":\"Always\",\"template\":{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"}}}}"
     "}}", "I spec.running: Running and RunStrategy are mutually exclusive. Note that Running is deprecated, please u"
     "se RunStrategy instead"},
    {NULL, "{\"spec\":{\"template\":{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"}}}}}}",
     "I spec.runStrategy: RunStrategy must be specified"},
    {NULL,
     "{\"spec\":{\"runStrategy\":\"Sometimes\",\"template\":{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"}}}}}}",
     "I spec.runStrategy: Invalid RunStrategy (Sometimes)"},
    {NULL,
     "{\"spec\":{\"runStrategy\":\"WaitAsReceiver\",\"template\":{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"}}}}}}",
     "I spec.runStrategy: Invalid RunStrategy (WaitAsReceiver), DecentralizedLiveMigration feature gate is not "
     "enabled in kubevirt resource"},
    {GATES(GATE(DecentralizedLiveMigration)),
     "{\"spec\":{\"runStrategy\":\"WaitAsReceiver\",\"template\":{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"}}}}}}",
     "N spec.runStrategy: not supported by this release: there is no live migration yet"},
    {NULL,
     "{\"spec\":{\"running\":true,\"instancetype\":{\"name\":\"x\"},\"template\":{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi"
     "\"}}}}}}",
     "N spec.instancetype: not supported by this release: instance types are not applied yet; give cpu and memory in the "
     "template"},
    {NULL,
     "{\"spec\":{\"running\":true,\"preference\":{\"name\":\"x\"},\"template\":{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"}"
     "}}}}}", "N spec.preference: not supported by this release: preferences are not applied yet; write what they would set in the "
     "template"},
    {NULL,
     "{\"spec\":{\"running\":true,\"dataVolumeTemplates\":[{}],\"template\":{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\""
     "}}}}}}", "N spec.dataVolumeTemplates: not supported by this release: there are no DataVolumes here yet; make a "
     "PersistentVolumeClaim and use volumes of that kind"},
    {NULL,
     "{\"spec\":{\"running\":true,\"dataVolumeTemplates\":[],\"template\":{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"}}"
     "}}}}", ""},
    {NULL,
     "{\"spec\":{\"running\":true,\"updateVolumesStrategy\":\"Migration\",\"template\":{\"spec\":{\"domain\":{\"memory\":{\"gues"
     "t\":\"64Mi\"}}}}}}",
     "N spec.updateVolumesStrategy: not supported by this release: volumes are not copied while a machine runs yet"},
    {NULL,
     "{\"spec\":{\"running\":true,\"template\":{\"spec\":{\"domain\":{\"machine\":{\"type\":\"pc\"},\"devices\":{\"disks\":[{\"name\""
     ":\"a\",\"disk\":{\"bus\":\"ide\"}}]}}}}}}",
     "I spec.template.spec.domain.machine.type: spec.template.spec.domain.machine.type is not supported: pc (al"
     "lowed values: [q35* pc-q35*])\n"
     "I spec.template.spec.domain.devices.disks[0].name: spec.template.spec.domain.devices.disks[0].Name 'a' no"
     "t found.\n" "I spec.template.spec.domain.devices.disks[0].disk.bus: IDE bus is not supported"},
    {NULL,
     "{\"spec\":{\"running\":true,\"template\":{\"metadata\":{\"annotations\":{\"hooks.kubevirt.io/hookSidecars\":\"[]\"}},\"s"
     "pec\":{\"domain\":{}}}}}",
     "I spec.template.metadata.annotations.hooks.kubevirt.io/hookSidecars: sidecar feature gate is not enabled "
     "in kubevirt-config, invalid entry spec.template.metadata.annotations.hooks.kubevirt.io/hookSidecars"},
    {NULL, "{\"spec\":{\"running\":true,\"template\":{\"spec\":{\"domain\":{\"devices\":{\"tpm\":{}}}}}}}",
     "N spec.template.spec.domain.devices.tpm: not supported by this release: there is no TPM yet"},
};
