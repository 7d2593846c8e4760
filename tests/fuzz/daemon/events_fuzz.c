/* What runs tell, and what the daemon keeps of jobs: any bytes must be taken or refused, never more. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/process.h"
#include "trainer/daemon/api.h"
#include "trainer/daemon/events.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Each line as an event, the whole as a record, as history.csv and as /proc/PID/stat. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    char *text = ls_xcalloc(1, n + 1);
    memcpy(text, bytes, n);
    ls_job *job = ls_job_create(), *record = NULL;
    job->state = LS_JOB_STARTING;
    for (char *line = text, *end; line != NULL; line = end != NULL ? end + 1 : NULL) {
        end = strchr(line, '\n');
        (void)ls_events_apply(job, line, end != NULL ? (size_t)(end - line) : strlen(line), NULL, NULL);
    }
    json_decref(ls_job_to_json(job));
    ls_err err = LS_ERR_INIT;
    if (ls_job_from_json(&record, "record", text, &err) == LS_OK) {
        json_decref(ls_job_to_json(record));
        ls_job_destroy(record);
    }
    json_decref(ls_api_history(text));
    ls_process_stat stat;
    (void)ls_process_parse(text, &stat);
    ls_job_destroy(job);
    free(text);
    return 0;
}
