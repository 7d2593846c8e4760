/* The process that launched this rank: mpirun, or its daemon on this host. */
#ifndef LS_WORKER_LAUNCHER_H
#define LS_WORKER_LAUNCHER_H

/*
 * Call before ending the job. mpirun waits for every host's daemon to confirm that all is over, and a daemon for
 * mpirun: where a host has vanished from the network both would wait until TCP gives up, a quarter of an hour. This
 * leaves a small process behind which kills the launcher, with a word on its standard error, if it is still there after
 * so many seconds, and which ends with it otherwise. Local; any thread. Does nothing where the parent is none of Open
 * MPI's launchers (Slurm's srun, a shell script).
 */
void ls_launcher_give_up_after(int seconds);

#endif
