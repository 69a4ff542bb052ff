/* A scripted libnvidia-ml.so.1 for machines without a GPU. The real nvidia-ml-py loads it; only what that needs is here.
 *
 * FAKE_NVML_SCRIPT names a text file, read at nvmlInit. One `key values` pair a line, `#` starts a comment:
 *
 *   name NVIDIA A40          uuid GPU-...            driver 580.65.06      cuda 13000       capability 8 6
 *   gpus 1                   GPU i has i as the last digit of its uuid, and i GiB more in use
 *   total 46068              MiB                     reserved 581          MiB, kept by the driver itself
 *   memory 4*10 9000 500     MiB in use: 10 readings of 4, then one of 9000, then 500 for ever
 *   power 0:60000 300:90000  mW from these milliseconds after nvmlInit on; the energy counter is the exact integral
 *   energy 5000              mJ on the counter at nvmlInit
 *   limit 300000 300000      mW: enforced and default power limit
 *   clocks 1740 7251         MHz: SM and memory      temperature 35
 *   reasons 1*3 0x40         event reasons, reading by reading as for memory
 *   ecc 0*2 3                uncorrected errors, reading by reading; `ecc off`: the board has none
 *   processes 4242 4243      ids
 *   fail SYMBOL CODE [N]     from its N-th call on (1: the first), SYMBOL returns CODE
 *   hang SYMBOL [N]          likewise, never returns
 *
 * FAKE_NVML_PROGRESS names a file that holds the number of memory readings so far.
 * -DSCRIPT="/path" is read where FAKE_NVML_SCRIPT is not set. -DOLD_DRIVER leaves out what drivers before 510 lack.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define MOST 64
#define MIB (1ULL << 20)

typedef unsigned long long u64;
typedef int status; /* nvmlReturn_t */
enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, VERSION_MISMATCH = 25 };

typedef struct gpu { unsigned index; } *device;
typedef struct { u64 total, free, used; } memory_v1;
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_v2;
typedef struct { unsigned pid; u64 used; unsigned instance, compute; } process;
_Static_assert(sizeof(memory_v2) == 40 && sizeof(process) == 24, "layouts of nvml.h");

typedef struct { int steps, at, left, times[MOST]; u64 value[MOST]; } sequence; /* handed out reading by reading */
typedef struct { char symbol[64]; int code, hang; unsigned from, calls; } rule;

static struct {
    char name[96], uuid[96], driver[80];
    unsigned gpus, cuda, capability[2], temperature, clocks[2], limit[2], processes, pid[MOST];
    u64 total, reserved, energy;
    sequence memory, reasons, ecc;
    int no_ecc, powers, rules;
    double power_ms[MOST], power_mw[MOST];
    rule rule[MOST];
} board;

static int users, progress = -1;
static u64 readings;
static struct timespec began;
static struct gpu gpus[8];

static void refuse(const char *line) { fprintf(stderr, "fake_nvml: cannot read '%s'\n", line); abort(); }

/* --- the script ------------------------------------------------------------------------------------------------- */

static void parse_sequence(sequence *s, char *text) {
    memset(s, 0, sizeof *s);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        char *end;
        s->value[s->steps] = strtoull(word, &end, 0);
        s->times[s->steps] = *end == '*' ? atoi(end + 1) : 1;
        if (s->times[s->steps] < 1 || ++s->steps == MOST) refuse(word);
    }
    s->left = s->times[0];
}

static void parse_power(char *text) {
    board.powers = 0;
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        if (board.powers == MOST || sscanf(word, "%lf:%lf", &board.power_ms[board.powers], &board.power_mw[board.powers]) != 2) refuse(word);
        board.powers++;
    }
}

static void parse_rule(const char *text, int hang) {
    rule *r = &board.rule[board.rules++];
    *r = (rule){ .hang = hang, .from = 1 };
    int read = hang ? sscanf(text, "%63s %u", r->symbol, &r->from) : sscanf(text, "%63s %d %u", r->symbol, &r->code, &r->from);
    if (read < (hang ? 1 : 2) || board.rules == MOST) refuse(text);
}

static void parse_line(char *line) {
    char *text = strchr(line, ' ');
    if (!text) refuse(line);
    *text++ = 0;
    text += strspn(text, " ");
    if (!strcmp(line, "name")) snprintf(board.name, sizeof board.name, "%s", text);
    else if (!strcmp(line, "uuid")) snprintf(board.uuid, sizeof board.uuid, "%s", text);
    else if (!strcmp(line, "driver")) snprintf(board.driver, sizeof board.driver, "%s", text);
    else if (!strcmp(line, "cuda")) board.cuda = (unsigned)atoi(text);
    else if (!strcmp(line, "capability")) sscanf(text, "%u %u", &board.capability[0], &board.capability[1]);
    else if (!strcmp(line, "gpus")) board.gpus = (unsigned)atoi(text);
    else if (!strcmp(line, "total")) board.total = strtoull(text, NULL, 10) * MIB;
    else if (!strcmp(line, "reserved")) board.reserved = strtoull(text, NULL, 10) * MIB;
    else if (!strcmp(line, "memory")) parse_sequence(&board.memory, text);
    else if (!strcmp(line, "power")) parse_power(text);
    else if (!strcmp(line, "energy")) board.energy = strtoull(text, NULL, 10);
    else if (!strcmp(line, "limit")) sscanf(text, "%u %u", &board.limit[0], &board.limit[1]);
    else if (!strcmp(line, "clocks")) sscanf(text, "%u %u", &board.clocks[0], &board.clocks[1]);
    else if (!strcmp(line, "temperature")) board.temperature = (unsigned)atoi(text);
    else if (!strcmp(line, "reasons")) parse_sequence(&board.reasons, text);
    else if (!strcmp(line, "ecc") && !strcmp(text, "off")) board.no_ecc = 1;
    else if (!strcmp(line, "ecc")) parse_sequence(&board.ecc, text);
    else if (!strcmp(line, "processes"))
        for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) board.pid[board.processes++ % MOST] = (unsigned)atoi(word);
    else if (!strcmp(line, "fail") || !strcmp(line, "hang")) parse_rule(text, line[0] == 'h');
    else refuse(line);
}

static void load_script(void) {
    char defaults[][64] = { "name NVIDIA A40", "uuid GPU-fa4e0000-0000-4000-8000-000000000000", "driver 580.65.06", "cuda 13000", "capability 8 6", "gpus 1",
                            "total 46068", "reserved 581", "memory 4", "power 0:30000", "limit 300000 300000", "clocks 1740 7251", "temperature 35",
                            "reasons 1", "ecc 0" };
    memset(&board, 0, sizeof board);
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) parse_line(defaults[i]);
    const char *path = getenv("FAKE_NVML_SCRIPT");
#ifdef SCRIPT
    if (!path) path = SCRIPT;
#endif
    if (!path) return;
    FILE *script = fopen(path, "r");
    if (!script) refuse(path);
    for (char line[1024]; fgets(line, sizeof line, script);) {
        line[strcspn(line, "#\r\n")] = 0;
        if (line[strspn(line, " ")]) parse_line(line);
    }
    fclose(script);
}

/* --- what the board does ---------------------------------------------------------------------------------------- */

static u64 read_next(sequence *s) {
    u64 value = s->value[s->at];
    if (s->at + 1 < s->steps && --s->left == 0) s->left = s->times[++s->at];
    return value;
}

static u64 read_used(device d) {
    u64 used = (read_next(&board.memory) + d->index * 1024) * MIB;
    readings++;
    if (progress >= 0) {
        char text[24];
        int length = snprintf(text, sizeof text, "%llu", readings);
        if (pwrite(progress, text, (size_t)length, 0) != length) abort();
    }
    return used;
}

static double elapsed_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - began.tv_sec) * 1e3 + (double)(now.tv_nsec - began.tv_nsec) / 1e6;
}

static double power_at(double ms) {
    double mw = board.power_mw[0];
    for (int i = 1; i < board.powers && board.power_ms[i] <= ms; i++) mw = board.power_mw[i];
    return mw;
}

static u64 energy_at(double ms) {
    double mj = 0;
    for (int i = 0; i < board.powers && board.power_ms[i] < ms; i++) {
        double end = i + 1 < board.powers && board.power_ms[i + 1] < ms ? board.power_ms[i + 1] : ms;
        mj += board.power_mw[i] * (end - board.power_ms[i]) / 1e3;
    }
    return board.energy + (u64)mj;
}

static status answer(const char *symbol, int initialised) {
    if (!initialised) return UNINITIALIZED;
    for (rule *r = board.rule; r < board.rule + board.rules; r++)
        if (!strcmp(r->symbol, symbol) && ++r->calls >= r->from) {
            while (r->hang) pause();
            return r->code;
        }
    return SUCCESS;
}

static status put_text(const char *text, char *out, unsigned size) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

/* --- NVML ------------------------------------------------------------------------------------------------------- */

#define CALL() do { status s_ = answer(__func__, users > 0); if (s_ != SUCCESS) return s_; } while (0)
#define GIVE(target, value) do { CALL(); if (!(target)) return INVALID_ARGUMENT; *(target) = (value); return SUCCESS; } while (0)

API status nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (users == 0) {
        load_script();
        clock_gettime(CLOCK_MONOTONIC, &began);
        for (unsigned i = 0; i < 8; i++) gpus[i].index = i;
        const char *path = getenv("FAKE_NVML_PROGRESS");
        if (path) progress = open(path, O_WRONLY | O_CREAT, 0600);
    }
    status s = answer(__func__, 1);
    users += s == SUCCESS;
    return s;
}
API status nvmlShutdown(void) { CALL(); users--; return SUCCESS; }
API const char *nvmlErrorString(status s) { (void)s; return "scripted error"; }

API status nvmlSystemGetDriverVersion(char *out, unsigned size) { CALL(); return put_text(board.driver, out, size); }
API status nvmlSystemGetCudaDriverVersion_v2(int *version) { GIVE(version, (int)board.cuda); }
API status nvmlDeviceGetCount_v2(unsigned *count) { GIVE(count, board.gpus); }
API status nvmlDeviceGetHandleByIndex_v2(unsigned index, device *d) {
    CALL();
    if (index >= board.gpus) return INVALID_ARGUMENT;
    *d = &gpus[index];
    return SUCCESS;
}
static void write_uuid(unsigned index, char *out) {
    strcpy(out, board.uuid);
    if (index) out[strlen(out) - 1] = (char)('0' + index);
}
API status nvmlDeviceGetHandleByUUID(const char *uuid, device *d) {
    CALL();
    for (unsigned i = 0; i < board.gpus; i++) {
        char own[96];
        write_uuid(i, own);
        if (!strcmp(own, uuid)) { *d = &gpus[i]; return SUCCESS; }
    }
    return NOT_FOUND;
}
API status nvmlDeviceGetName(device d, char *out, unsigned size) { (void)d; CALL(); return put_text(board.name, out, size); }
API status nvmlDeviceGetUUID(device d, char *out, unsigned size) {
    CALL();
    char own[96];
    write_uuid(d->index, own);
    return put_text(own, out, size);
}
API status nvmlDeviceGetCudaComputeCapability(device d, int *major, int *minor) {
    (void)d;
    CALL();
    *major = (int)board.capability[0];
    *minor = (int)board.capability[1];
    return SUCCESS;
}

API status nvmlDeviceGetMemoryInfo(device d, memory_v1 *m) {
    CALL();
    m->total = board.total;
    m->used = read_used(d) + board.reserved; /* what makes v1 differ from v2 */
    m->free = m->total - m->used;
    return SUCCESS;
}
#ifndef OLD_DRIVER
API status nvmlDeviceGetMemoryInfo_v2(device d, memory_v2 *m) {
    CALL();
    if (m->version != (2u << 24 | sizeof *m)) return VERSION_MISMATCH;
    m->total = board.total;
    m->reserved = board.reserved;
    m->used = read_used(d);
    m->free = m->total - m->reserved - m->used;
    return SUCCESS;
}
API status nvmlDeviceGetComputeRunningProcesses_v3(device d, unsigned *count, process *out) {
    (void)d;
    CALL();
    unsigned room = *count;
    *count = board.processes;
    if (room < board.processes) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < board.processes; i++) out[i] = (process){ board.pid[i], 100 * MIB, ~0u, ~0u };
    return SUCCESS;
}
API status nvmlDeviceGetCurrentClocksEventReasons(device d, u64 *reasons) { (void)d; GIVE(reasons, read_next(&board.reasons)); }
#endif
API status nvmlDeviceGetCurrentClocksThrottleReasons(device d, u64 *reasons) { (void)d; GIVE(reasons, read_next(&board.reasons)); }

API status nvmlDeviceGetPowerUsage(device d, unsigned *mw) { (void)d; GIVE(mw, (unsigned)power_at(elapsed_ms())); }
API status nvmlDeviceGetTotalEnergyConsumption(device d, u64 *mj) { (void)d; GIVE(mj, energy_at(elapsed_ms())); }
API status nvmlDeviceGetEnforcedPowerLimit(device d, unsigned *mw) { (void)d; GIVE(mw, board.limit[0]); }
API status nvmlDeviceGetPowerManagementDefaultLimit(device d, unsigned *mw) { (void)d; GIVE(mw, board.limit[1]); }
API status nvmlDeviceGetTemperature(device d, int sensor, unsigned *celsius) { (void)d; (void)sensor; GIVE(celsius, board.temperature); }
API status nvmlDeviceGetClockInfo(device d, int domain, unsigned *mhz) { (void)d; GIVE(mhz, board.clocks[domain == 2]); }
API status nvmlDeviceGetEccMode(device d, unsigned *now, unsigned *pending) {
    (void)d;
    CALL();
    if (board.no_ecc) return NOT_SUPPORTED;
    *now = *pending = 1;
    return SUCCESS;
}
API status nvmlDeviceGetTotalEccErrors(device d, int type, int counter, u64 *errors) {
    (void)d;
    CALL();
    if (board.no_ecc) return NOT_SUPPORTED;
    *errors = type == 1 && counter == 0 ? read_next(&board.ecc) : 0;
    return SUCCESS;
}
API status nvmlDeviceGetMigMode(device d, unsigned *now, unsigned *pending) { (void)d; (void)now; (void)pending; CALL(); return NOT_SUPPORTED; }
