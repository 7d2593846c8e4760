/* What a plan of a model takes: memory and arithmetic, layer by layer. */
#ifndef LS_CLI_SUMMARY_PLAN_H
#define LS_CLI_SUMMARY_PLAN_H

#include "worker/model/model.h"

/* Compiles training and inference plans for so many samples and prints the table on standard output. */
ls_status ls_summary_print_plan(const ls_model *model, int64_t n_samples, ls_err *err) LS_MUST_CHECK;

#endif
