/*
 * Requests to stop: SIGTERM, SIGUSR1 (Slurm's warning before the end) and SIGINT set a flag and nothing else; the loop
 * passes it into each step's verdict, so that all ranks stop at the same step. A second SIGINT or SIGTERM ends the
 * process at once, as if there were no handler.
 */
#ifndef LS_FIT_STOP_H
#define LS_FIT_STOP_H

#include <stdbool.h>

void ls_stop_install(void);
bool ls_stop_requested(void);

#endif
