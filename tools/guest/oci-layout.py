#!/usr/bin/env python3
"""oci-layout.py DIR OUT: packs a directory as a one-layer OCI image layout (image-spec 1.1), tag latest, reproducibly."""
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile


def blob(out, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(out, "blobs", "sha256", digest), "wb") as f:
        f.write(data)
    return "sha256:" + digest, len(data)


def main():
    src, out = sys.argv[1:3]
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(os.path.join(out, "blobs", "sha256"))

    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for folder, dirs, files in sorted(os.walk(src)):
            for name in sorted(dirs + files):
                path = os.path.join(folder, name)
                info = tar.gettarinfo(path, os.path.relpath(path, src))
                info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 107, 107, "", ""
                info.mode = 0o755 if info.isdir() else 0o440
                if info.isdir():
                    tar.addfile(info)
                else:
                    with open(path, "rb") as f:
                        tar.addfile(info, f)
    diff_id = "sha256:" + hashlib.sha256(raw.getvalue()).hexdigest()
    layer, layer_size = blob(out, gzip.compress(raw.getvalue(), 1, mtime=0))
    config, config_size = blob(out, json.dumps({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]}}).encode())
    manifest, manifest_size = blob(out, json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer,
                    "size": layer_size}]}).encode())
    with open(os.path.join(out, "oci-layout"), "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    with open(os.path.join(out, "index.json"), "w") as f:
        json.dump({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": manifest_size,
             "annotations": {"org.opencontainers.image.ref.name": "latest"}}]}, f)


main()
