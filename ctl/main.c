#include <signal.h>

#include "ctl/command.h"

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); // a closed pipe is a failed write, reported as such
    return tob_ctl_main(argc, argv);
}
