/* Answers `cpuid` in place of the processor, for code whose cpuid instructions were replaced by ud2.
 *
 * Loaded before all else (LD_PRELOAD). HIDDEN_CPU names what the processor shall not have: "avx512", "avx2" (and FMA,
 * and AVX-512), or "avx" (and both others). All else is what the processor says.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { AVX512 = 1, AVX2 = 2, AVX = 3 };
static int hidden;

/* Bits of leaf 1 ecx: FMA 12, AVX 28, F16C 29. Of leaf 7: AVX2 ebx 5; AVX-512 and its parts, AMX and the VEX forms of
 * their instructions, all others. */
static const unsigned FMA = 1u << 12 | 1u << 29, PLAIN_AVX = 1u << 28;
static const unsigned AVX512_EBX = 1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;
static const unsigned AVX512_ECX = 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14;
static const unsigned AVX512_EDX = 1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25;
static const unsigned VECTOR_ECX = 1u << 8 | 1u << 9 | 1u << 10; /* GFNI, VAES, VPCLMULQDQ */
static const unsigned VEX_EAX = 1u << 4 | 1u << 23, AVX512_EAX = 1u << 5 | 1u << 21;
static const unsigned VEX_EDX = 1u << 4 | 1u << 5 | 1u << 10, AVX10_EDX = 1u << 19;

static void answer(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *at = (const unsigned char *)registers[REG_RIP];
    Dl_info where;
    (void)info;
    if (!dladdr(at, &where) || !strstr(where.dli_fname, "onnxruntime") || at[0] != 0x0f || at[1] != 0x0b) {
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL); /* not one of ours: it ends the process */
        return;
    }
    unsigned leaf = (unsigned)registers[REG_RAX], part = (unsigned)registers[REG_RCX], a, b, c, d;
    __cpuid_count(leaf, part, a, b, c, d);
    if (leaf == 1 && hidden >= AVX2) c &= ~FMA;
    if (leaf == 1 && hidden >= AVX) c &= ~PLAIN_AVX;
    if (leaf == 7 && part == 0) {
        b &= ~AVX512_EBX, c &= ~AVX512_ECX, d &= ~AVX512_EDX;
        if (hidden >= AVX2) b &= ~(1u << 5), c &= ~VECTOR_ECX;
    }
    if (leaf == 7 && part == 1) {
        a &= ~AVX512_EAX, d &= ~AVX10_EDX;
        if (hidden >= AVX2) a &= ~VEX_EAX, d &= ~VEX_EDX;
    }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("HIDDEN_CPU");
    if (name == NULL) return;
    hidden = !strcmp(name, "avx512") ? AVX512 : !strcmp(name, "avx2") ? AVX2 : !strcmp(name, "avx") ? AVX : 0;
    if (!hidden) {
        fprintf(stderr, "HIDDEN_CPU is %s, expected avx512, avx2 or avx\n", name);
        exit(2);
    }
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGILL, &action, NULL);
}
