#include <signal.h>

#include "ctl/command.h"
#include "util/daemon.h"

int main(int argc, char **argv) {
    tob_daemon_keep_secrets();
    signal(SIGPIPE, SIG_IGN); // a closed pipe is a failed write, reported as such
    return tob_ctl_main(argc, argv);
}
