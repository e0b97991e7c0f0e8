#include "base/metric.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

void metric_family(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_addf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metric_one(struct buf *b, const char *name, const char *type, const char *help, double value)
{
    metric_family(b, name, type, help);
    buf_addf(b, "%s %.15g\n", name, value);
}

/* Field n (from 1) of /proc/self/stat behind the name, or of /proc/self/statm. */
static double proc_number(const char *file, size_t n, bool behind_name)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    struct str rest, word = STR_NONE;
    const char *end;

    if (!file_read(AT_FDCWD, file, &b, &err))
        return -1;
    end = behind_name ? strrchr(b.p, ')') : NULL;
    rest = end ? str_of(end + 2) : buf_str(&b);
    for (size_t i = 0; i < n; i++)
        if (!str_next(&rest, ' ', &word))
            return -1;
    return word.n ? strtod(word.p, NULL) : -1;
}

static double open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    double n = -3; /* ".", ".." and the directory's own */

    if (!d)
        return -1;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

void metric_process(struct buf *b)
{
    struct rusage u;
    double ticks = (double)sysconf(_SC_CLK_TCK), page = (double)sysconf(_SC_PAGESIZE),
           started = proc_number("/proc/self/stat", 20, true),
           size = proc_number("/proc/self/statm", 1, false),
           resident = proc_number("/proc/self/statm", 2, false), fds = open_descriptors();
    struct timespec boot = {0};

    if (getrusage(RUSAGE_SELF, &u) == 0)
        metric_one(b, "process_cpu_seconds_total", "counter",
                   "Total user and system CPU time spent in seconds.",
                   (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec)
                       + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
    if (resident >= 0)
        metric_one(b, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
                   resident * page);
    if (size >= 0)
        metric_one(b, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
                   size * page);
    if (fds >= 0)
        metric_one(b, "process_open_fds", "gauge", "Number of open file descriptors.", fds);
    if (started >= 0 && clock_gettime(CLOCK_BOOTTIME, &boot) == 0)
        metric_one(b, "process_start_time_seconds", "gauge",
                   "Start time of the process since unix epoch in seconds.",
                   (double)time(NULL) - (double)boot.tv_sec + started / ticks);
}
