/* A made-up NVIDIA driver: one device of compute capability 9.0 whose memory is the host's and whose kernels do nothing.

Enough for numba.cuda and cuda.core to get as far as a launch. What is not here succeeds and gives nothing. Launches and
attributes that are set go to the file that MADE_UP_DRIVER_LOG names, one in a line. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef uint64_t Address;

typedef struct {
    unsigned grid[3], block[3], shared;
    void *stream;
} Config;

static void *context; /* of which only the address matters */
static __thread void *current;
static FILE *log_file;

static Result succeed(void) { return 0; }

Result cuInit(unsigned flags) {
    const char *name = getenv("MADE_UP_DRIVER_LOG");
    if (name && !log_file) log_file = fopen(name, "a");
    return 0;
}

Result cuDriverGetVersion(int *version) { return *version = 13000, 0; }
Result cuDeviceGetCount(int *count) { return *count = 1, 0; }
Result cuDeviceGet(int *device, int ordinal) { return *device = ordinal, 0; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = (size_t)80 << 30, 0; }
Result cuDeviceGetUuid_v2(char *uuid, int device) { return memset(uuid, 1, 16), 0; }
Result cuDeviceGetName(char *name, int size, int device) { return snprintf(name, size, "made up"), 0; }

Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) { /* those that are asked for, and 1024 for the rest */
    case 8: *value = 49152; break;    /* shared memory of a block */
    case 10: *value = 32; break;      /* threads of a warp */
    case 16: *value = 132; break;     /* multiprocessors */
    case 75: *value = 9; break;       /* compute capability, major */
    case 76: *value = 0; break;       /* and minor */
    case 97: *value = getenv("MADE_UP_DRIVER_SHARED") ? atoi(getenv("MADE_UP_DRIVER_SHARED")) : 232448; break;
    default: *value = 1024;           /* 97: shared memory of a block that asks for more */
    }
    return 0;
}

Result cuDevicePrimaryCtxRetain(void **found, int device) { return *found = &context, 0; }
Result cuCtxGetCurrent(void **found) { return *found = current, 0; }
Result cuCtxSetCurrent(void *given) { return current = given, 0; }
Result cuCtxPushCurrent_v2(void *given) { return current = given, 0; }
Result cuCtxPopCurrent_v2(void **found) { return *found = current, 0; }
Result cuCtxGetDevice(int *device) { return current ? (*device = 0) : 201; }
Result cuCtxGetId(void *given, Address *id) { return *id = 1, 0; }
Result cuStreamCreate(void **stream, unsigned flags) { return *stream = malloc(1), 0; }
Result cuStreamGetCtx(void *stream, void **found) { return *found = &context, 0; }
Result cuMemGetInfo_v2(size_t *left, size_t *total) { return *left = *total = (size_t)80 << 30, 0; }
Result cuMemFree_v2(Address at) { return free((void *)at), 0; }
Result cuMemcpyHtoD_v2(Address to, void *from, size_t size) { return memcpy((void *)to, from, size), 0; }
Result cuMemcpyDtoH_v2(void *to, Address from, size_t size) { return memcpy(to, (void *)from, size), 0; }

Result cuMemcpyHtoDAsync_v2(Address to, void *from, size_t size, void *stream) {
    return memcpy((void *)to, from, size), 0;
}

Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t size, void *stream) {
    return memcpy(to, (void *)from, size), 0;
}

Result cuMemAlloc_v2(Address *at, size_t size) {
    *at = (Address)aligned_alloc(256, (size + 511) / 256 * 256);
    return *at ? 0 : 2;
}

Result cuPointerGetAttribute(void *value, int attribute, Address at) {
    if (attribute == 9) *(int *)value = 0; /* the device's ordinal */
    else *(void **)value = &context;
    return 0;
}

Result cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned n, void *c, void *d, unsigned m) {
    return *library = &context, 0;
}

Result cuLibraryGetKernel(void **kernel, void *library, const char *name) { return *kernel = &context, 0; }
Result cuKernelGetFunction(void **function, void *kernel) { return *function = kernel, 0; }

Result cuKernelGetAttribute(int *value, int attribute, void *kernel, int device) {
    return *value = attribute == 1 ? 768 : 0, 0; /* 1: shared memory that the kernel declares */
}

Result cuKernelSetAttribute(int attribute, int value, void *kernel, int device) {
    if (log_file) fprintf(log_file, "attribute %d %d\n", attribute, value), fflush(log_file);
    return 0;
}

Result cuFuncSetAttribute(void *function, int attribute, int value) {
    return cuKernelSetAttribute(attribute, value, function, 0);
}

Result cuLaunchKernelEx(const Config *config, void *function, void **parameters, void **extra) {
    if (log_file) {
        fprintf(log_file, "launch %u %u %u %p", config->grid[0], config->block[0], config->shared, config->stream);
        for (int i = 0; i < 12; i++) fprintf(log_file, " %lld", *(long long *)parameters[i]); /* of twelve arguments */
        fprintf(log_file, "\n"), fflush(log_file);
    }
    return 0;
}

Result cuGetErrorName(int error, const char **text) { return *text = "ERROR", 0; }
Result cuGetErrorString(int error, const char **text) { return *text = "no such thing", 0; }

Result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    static void *self;
    char newer[256];
    if (!self) {
        Dl_info about;
        dladdr((void *)&succeed, &about);
        self = dlopen(about.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    }
    snprintf(newer, sizeof newer, "%s_v2", name);
    *function = dlsym(self, newer);
    if (!*function) *function = dlsym(self, name);
    if (!*function) *function = (void *)&succeed;
    if (status) *status = 0;
    return 0;
}

Result cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
