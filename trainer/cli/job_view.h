/* What people read of a job that lockstepd gave as JSON. */
#ifndef LS_CLI_JOB_VIEW_H
#define LS_CLI_JOB_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "common/json.h"

/* A member's text, "" when there is none; a member's number, or otherwise. */
const char *ls_view_text(const json_t *job, const char *key);
double ls_view_number(const json_t *object, const char *key, double otherwise);

/* Whether its state is one that does not change by itself. */
bool ls_view_over(const json_t *job);

/* "12" of "12", "3/12" where the whole is known, "-" where there is nothing yet. */
const char *ls_view_part(char *out, size_t size, const json_t *progress, const char *part, const char *whole);

/* A moment as local time: the time of day, with the date unless it is today; "-" for 0. */
const char *ls_view_moment(char *out, size_t size, double seconds);

/* "epoch 3/12  step 40/100  loss 0.2512  accuracy 0.9310  900 samples/s  7.0 s left", as far as known. Of a job that is
 * over, no time is left. */
void ls_view_progress(char *out, size_t size, const json_t *progress, bool over);
/* "  loss 0.2512  val_loss 0.3"; appends to out. */
void ls_view_metrics(char *out, size_t size, const json_t *metrics);

/* The table of `status`, and that of `list`, of an array of jobs; the lines of one job. On standard output. */
void ls_view_status_table(const json_t *jobs);
void ls_view_list_table(const json_t *jobs);
void ls_view_details(const json_t *job);

#endif
