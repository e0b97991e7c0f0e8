/* virtctl, also `kubectl virt` (as kubectl-virt in PATH). */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "ctl/ctl.h"

int main(int argc, char **argv)
{
    const struct ctl_io io = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    struct loop *l;
    int code;

    signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error like others: the terminal must be put right */
    l = loop_new(NULL);
    code = ctl_run(l, &io, argc, argv);
    loop_free(l);
    return code;
}
