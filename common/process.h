/*
 * Processes of this machine, named so that the name cannot come to mean another: a process number together with the
 * moment when the process began. The kernel gives numbers out again; never the pair (until the machine is rebooted, for
 * which there is ls_process_boot). Linux: read from /proc, signals through pidfd.
 */
#ifndef LS_COMMON_PROCESS_H
#define LS_COMMON_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ls_process {
    int pid;
    uint64_t start; /* clock ticks since boot: field 22 of /proc/PID/stat; 0: none */
} ls_process;

/* What is read of /proc/PID/stat. */
typedef struct ls_process_stat {
    int pid, parent, session;
    char state; /* R S D Z ... */
    uint64_t start;
} ls_process_stat;

/* Parses the text of /proc/PID/stat; a program's name may hold blanks and parentheses. false: not such a text. */
bool ls_process_parse(const char *text, ls_process_stat *out);

/* The process that has this number now; start 0 when there is none, or nothing but a zombie of it. */
ls_process ls_process_of(int pid);

/* Whether this very process still runs; a zombie does not. */
bool ls_process_alive(ls_process process);

/* Sends a signal to this very process. false when it is gone (nothing was signalled) or may not be signalled. */
bool ls_process_signal(ls_process process, int signal_number);

/* The running processes of a session whose leader is, or was, `leader`: up to max of them into out; returns how many
 * there are. None when the leader's number has since been given to another process. */
size_t ls_process_session(ls_process leader, ls_process *out, size_t max);

/* Seconds since the Unix epoch when it began, good to about a second; 0 when not known. */
double ls_process_start_seconds(ls_process process);

/* A text that changes with every boot of the machine; "" when not known. */
void ls_process_boot(char out[40]);

#endif
