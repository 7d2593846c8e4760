/* What the files fit*.c share: one run and where it stands. */
#ifndef LS_FIT_FIT_PRIVATE_H
#define LS_FIT_FIT_PRIVATE_H

#include "storage/checkpoint_writer.h"
#include "storage/run_folder.h"
#include "trainer/fit/callback.h"
#include "trainer/fit/fit.h"
#include "trainer/fit/history.h"
#include "trainer/fit/job.h"
#include "trainer/fit/report.h"
#include "trainer/fit/schedule.h"
#include "trainer/fit/source.h"
#include "trainer/fit/table.h"
#include "worker/engine/engine.h"
#include "worker/plugin/plugin.h"
#include "worker/reduce/team.h"

enum { LS_FLAG_STOP = 1, LS_FLAG_BUSY = 2 /* a checkpoint is being written */ }; /* in a verdict */

typedef struct ls_fit {
    ls_team *team;
    bool chief; /* rank 0 */
    const ls_fit_request *request;

    ls_job job;
    char *job_text; /* resolved */
    ls_plugins plugins;
    ls_json_doc plugin_words; /* of --plugin */
    ls_model *model;
    ls_compile compile;
    ls_schedule schedule; /* of the optimizer's learning rate; class_ NULL: a number */
    ls_callbacks callbacks;
    ls_callback_port port;
    ls_source *train, *validation; /* validation NULL: none */
    ls_engine *engine;
    char (*names)[LS_LOGS_NAME]; /* [n_names] of loss, losses of outputs, metrics */
    int n_names, n_sums;
    const char **columns; /* [n_columns] of history.csv */
    int n_columns;

    /* Where the run stands; all of it is in a checkpoint. */
    int64_t epoch, batch; /* done: epochs, and batches of the epoch after them */
    uint64_t step;        /* of the run */
    double *sums;         /* [n_sums] of the epoch so far */
    ls_moment moment;     /* learning_rate, stop, reason */
    ls_history history;

    ls_logs logs;
    ls_tables tables;    /* of the last epoch: of validation where there is one, else of training */
    double *step_sums;   /* [n_sums] */
    float *states;       /* [ls_engine_n_state_elems] of stateful layers; the chief's; NULL: there are none */
    uint64_t *hashes;    /* [ranks] of the weights */
    uint64_t said_step;  /* after which the ranks last told each other their weights' digests */
    bool checkpoint_due; /* one by steps, which waits until the one before is written */
    size_t n_samples;    /* of training */
    int64_t steps;       /* an epoch */
    uint32_t *order;     /* [n_samples] of epoch ordered_epoch */
    uint32_t *in_order;
    int64_t ordered_epoch;         /* -1: none yet */
    ls_walk walk, validation_walk; /* of this epoch and of its validation */
    int64_t started_ns;            /* this epoch, or its rest after a resume */
    size_t seen;                   /* samples since then */
    double trained_samples_per_s;
    char fault_step[32], fault_nan[32], fault_validate[32], fault_weights[32];

    /* The chief's. */
    ls_run_folder run;
    char run_path[4096]; /* on all ranks */
    ls_report *report;
    ls_checkpoint_writer *writer;
    ls_checkpoint snapshot;                               /* laid out, not used yet */
    char *constant_state, *epoch_state, *training_config; /* texts of a checkpoint */
    double config_rate;                                   /* learning rate in training_config */
    bool settled;                                         /* epoch_state is of this epoch, and no callback changes it */
    char *last_good; /* path of the last checkpoint that is known to be written; NULL: none */
    char *resumed_from;
} ls_fit;

/* fit_setup.c: from the request to a run that stands before its first step. Collective, agreed. */
ls_status ls_fit_setup(ls_fit *f, ls_err *err) LS_MUST_CHECK;
void ls_fit_release(ls_fit *f);

/* fit_plugins.c. Loads a list of plugins (see ls_plugins_load), adds what they bring and sees that all ranks have
 * loaded the same files. Collective, agreed. Released with f. */
ls_status ls_fit_load_plugins(ls_fit *f, ls_json list, const char *folder, ls_err *err) LS_MUST_CHECK;
/* Whether the plugins that a checkpoint records (its state; NULL: none) are loaded, with a warning about one that is
 * not the same file any more. Local. LS_EINPUT names the missing one; `cure` says how to load it. */
ls_status ls_fit_check_plugins(const ls_plugins *plugins, const json_t *state, const char *path, const char *cure,
                               ls_err *err) LS_MUST_CHECK;
/* The file's model could not be built, as err says: if it was trained with a plugin that is not loaded, err says that
 * instead. Returns err's status. */
ls_status ls_fit_name_plugin(const ls_plugins *plugins, const ls_checkpoint *c, const char *file, ls_err *err);

/* fit_model.c: the model of a job and how it is compiled. All ranks, agreed. */
ls_status ls_fit_build_model(ls_fit *f, ls_err *err) LS_MUST_CHECK;

/* A model as it is written; where it leaves its input open, with the shape of the data (FILE:/GROUP). Takes over *doc.
 * Local. */
ls_status ls_fit_build_for(ls_model **out, ls_json_doc *doc, const char *data, ls_err *err) LS_MUST_CHECK;

/* fit_trace.c: --trace. Whether its file may be written, before anything is made; `run`, the whole path of the run
 * folder, may be where it is to lie. The chief alone. LS_EINPUT. */
ls_status ls_fit_trace_check(const ls_fit *f, const char *run, ls_err *err) LS_MUST_CHECK;
/* Collective. begin starts it on every rank (where one was asked for), end writes the file on the
 * chief and, after a run that came to its end, prints the profile to standard error. */
ls_status ls_fit_trace_begin(ls_fit *f, ls_err *err) LS_MUST_CHECK;
void ls_fit_trace_end(ls_fit *f, ls_status status);

/* fit_state.c. Collective. path NULL: under its own name, old ones retired. Waits for the one before, where that is
 * still being written: all ranks do, with signs of life, and a disk that takes 600 s ends the job. That a write failed
 * is a warning, for it shows later; ls_fit_flush waits and returns it. */
ls_status ls_fit_checkpoint(ls_fit *f, const char *path, bool weights_only, ls_err *err) LS_MUST_CHECK;
/* The chief's: lays a snapshot out beforehand, so that the first checkpoint does not wait for its memory. */
ls_status ls_fit_reserve_snapshot(ls_fit *f, ls_err *err) LS_MUST_CHECK;
ls_status ls_fit_flush(ls_fit *f, ls_err *err) LS_MUST_CHECK;
/* The chief's: reports what the writer has finished. */
void ls_fit_collect(ls_fit *f);
/* Goes on from the newest good checkpoint of the run folder; *found is false when there is none. */
ls_status ls_fit_resume(ls_fit *f, bool *found, ls_err *err) LS_MUST_CHECK;

/* fit_state_json.c: what a checkpoint says besides arrays. */
/* settle makes the texts of all that changes between epochs; text puts them and where the run stands into c's state,
 * and takes nothing from the heap where c has had such a state before. */
void ls_fit_state_settle(ls_fit *f);
/* Keras's training_config, of the job's compile section, the model and the learning rate of the moment; the caller's.
 */
char *ls_fit_training_config(const ls_fit *f);
void ls_fit_state_text(const ls_fit *f, ls_checkpoint *c);
/* Back into f, after checking that job, data and lanes are those of the checkpoint. */
ls_status ls_fit_state_restore(ls_fit *f, ls_json state, ls_err *err) LS_MUST_CHECK;

/* fit_logs.c: loss and metrics from sums, in Keras's names, each with the prefix. */
ls_status ls_fit_name_logs(ls_fit *f, ls_err *err) LS_MUST_CHECK;
void ls_fit_logs(const ls_fit *f, const double *sums, const char *prefix, ls_logs *out);
/* Adds the tables of those metrics that are tables, in the same names. */
void ls_fit_tables(const ls_fit *f, const double *sums, const char *prefix, ls_tables *out);

/* Keras's files have the names of top-level layers; a weight lies in the group of the one that holds it. */
const ls_layer *ls_fit_group_of(const ls_weight *w);

#endif
