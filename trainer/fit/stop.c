#include "trainer/fit/stop.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t requested;

static void on_signal(int number) {
    if (requested && number != SIGUSR1) {
        signal(number, SIG_DFL);
        raise(number);
    }
    requested = 1;
}

void ls_stop_install(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    requested = 0;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

bool ls_stop_requested(void) {
    return requested != 0;
}
