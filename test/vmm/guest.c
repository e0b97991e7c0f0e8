/* A guest of a few hundred bytes, for the contract suite: a kernel with a PVH entry, so QEMU (q35, pc, microvm), cloud-hypervisor
 * and Firecracker all load it. It has no driver but for the serial port and speaks the words of guest.py on it: "guest up", then
 * lines: say TEXT, count, poweroff, reboot, panic, deaf. It boots in milliseconds where Linux takes seconds under emulation.
 *
 * Compiled for 32 bits without any library, turned into a 64-bit ELF file by meson.build. No interrupts, no paging. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COM1 0x3f8
#define PM_EVENT 0x600 /* where SeaBIOS puts the ACPI registers of q35 and pc */
/* QEMU's microvm: the generic event device, hw/i386/microvm.h. */
#define GED_EVENTS ((volatile uint32_t *)0xfea00000)
#define GED_SLEEP ((volatile uint8_t *)0xfea00200)

__asm__(".section .note.pvh,\"a\",@note\n"
        ".long 4, 4, 18\n" /* XEN_ELFNOTE_PHYS32_ENTRY */
        ".asciz \"Xen\"\n"
        ".long start\n"
        ".section .text.start,\"ax\",@progbits\n"
        ".globl start\n"
        "start: cld\n"
        "mov $stack_top, %esp\n"
        "call run\n");
char stack[16384] __attribute__((aligned(16), used));
__asm__(".globl stack_top\n.set stack_top, stack + 16384\n");

enum board { BOARD_PM, BOARD_CLOUD_HYPERVISOR, BOARD_NO_PCI };
static enum board board;
static bool deaf;
static uint32_t count;

static void out8(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}

static void out16(uint16_t port, uint16_t v)
{
    __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port));
}

static void out32(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static uint16_t in16(uint16_t port)
{
    uint16_t v;

    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static uint32_t in32(uint16_t port)
{
    uint32_t v;

    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static uint32_t pci(unsigned slot, unsigned at)
{
    out32(0xcf8, 0x80000000u | slot << 11 | at);
    return in32(0xcfc);
}

static void put(const char *s)
{
    for (; *s; s++) {
        while (!(in8(COM1 + 5) & 0x20))
            ;
        out8(COM1, (uint8_t)*s);
    }
}

static void say(const char *a, const char *b)
{
    put(a);
    put(b);
    put("\r\n");
}

static void reset(void)
{
    static const struct {
        uint16_t size;
        uint32_t base;
    } __attribute__((packed)) nothing = {0, 0};

    __asm__ volatile("lidt %0; int3" ::"m"(nothing)); /* a triple fault: every board understands that */
    for (;;)
        ;
}

/* As Linux does it. */
static void reboot(void)
{
    if (board != BOARD_NO_PCI)
        out8(0xcf9, 6);
    out8(0x64, 0xfe);
    reset();
}

static void off(void)
{
    switch (board) {
    case BOARD_PM:
        out16(PM_EVENT + 2, 0);
        out16(PM_EVENT + 4, 0x2000); /* S5 */
        break;
    case BOARD_CLOUD_HYPERVISOR:
        out8(0x600, 0x34);
        break;
    case BOARD_NO_PCI:
        *GED_SLEEP = 0x34;
        break;
    }
    for (unsigned i = 0; i < 1000000; i++)
        __asm__ volatile("pause");
    reset(); /* Firecracker has no other way out */
}

/* pvpanic: the PCI device wherever its memory is, or the old port. */
static void panic(void)
{
    put("Kernel panic - not syncing: asked to\r\n");
    if (board != BOARD_NO_PCI) {
        for (unsigned slot = 0; slot < 32; slot++)
            if (pci(slot, 0) == 0x00111b36) {
                out32(0xcf8, 0x80000000u | slot << 11 | 4);
                out32(0xcfc, pci(slot, 4) | 2);
                *(volatile uint8_t *)(uintptr_t)(pci(slot, 0x10) & ~15u) = 1;
            }
    }
    if (in8(0x505) != 0xff)
        out8(0x505, 1);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static bool is(const char *line, const char *word)
{
    while (*word && *line == *word)
        line++, word++;
    return !*word;
}

static void obey(char *line)
{
    char digits[12], *p = digits + sizeof digits;

    if (is(line, "say ")) {
        say("said ", line + 4);
    } else if (is(line, "count")) {
        *--p = 0;
        for (uint32_t n = count; n > 0 || !*p; n /= 10)
            *--p = (char)('0' + n % 10);
        say("count ", p);
    } else if (is(line, "deaf")) {
        deaf = true;
        say("deaf", "");
    } else if (is(line, "work")) {
        say("worked", ""); /* it has no driver for a disk */
    } else if (is(line, "poweroff")) {
        say("off", "");
        off();
    } else if (is(line, "reboot")) {
        say("again", "");
        reboot();
    } else if (is(line, "panic")) {
        panic();
    } else {
        say("what? ", line);
    }
}

static bool button(void)
{
    switch (board) {
    case BOARD_PM:
        if (!(in16(PM_EVENT) & 0x100))
            return false;
        out16(PM_EVENT, 0x100);
        return true;
    case BOARD_CLOUD_HYPERVISOR:
        return false; /* needs ACPI's interpreter */
    case BOARD_NO_PCI:
        if (*GED_EVENTS & 2 && *GED_EVENTS != 0xffffffff)
            return true;
        return in8(0x64) != 0xff && in8(0x64) & 1 && in8(0x60) != 0xfa; /* Ctrl-Alt-Del of Firecracker */
    }
    return false;
}

void run(void)
{
    static char line[128];
    size_t n = 0;
    uint32_t host = pci(0, 0);

    board = host == 0x0d578086 ? BOARD_CLOUD_HYPERVISOR : host == 0xffffffff || host == 0 ? BOARD_NO_PCI : BOARD_PM;
    if (board == BOARD_PM)
        out16(PM_EVENT + 2, 0x100); /* the button shows in the status register only when it is enabled */
    put("guest up\r\n");
    for (uint32_t turn = 0;; turn++) {
        uint8_t c;

        if (turn % 64 == 0) {
            count++;
            if (button() && !deaf) {
                say("power button", "");
                off();
            }
        }
        if (!(in8(COM1 + 5) & 1)) {
            __asm__ volatile("pause");
            continue;
        }
        c = in8(COM1);
        if (c != '\r' && c != '\n') {
            if (n < sizeof line - 1)
                line[n++] = (char)c;
            continue;
        }
        line[n] = 0;
        if (n > 0)
            obey(line);
        n = 0;
    }
}
