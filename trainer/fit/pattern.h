/* File names with holes, as Python's str.format fills them: "{epoch:02d}-{val_loss:.2f}.h5". */
#ifndef LS_FIT_PATTERN_H
#define LS_FIT_PATTERN_H

#include <stdint.h>

#include "common/status.h"
#include "trainer/fit/logs.h"

/* Fills {epoch}, {batch} (when > 0) and the names of the logs; after a colon a width, a precision and one of d f e g,
 * as printf has them; "{{" and "}}" are braces. LS_EINPUT: an unknown name (says which there are), a format that is
 * none, a result too long. */
ls_status ls_pattern_fill(const char *pattern, int64_t epoch, int64_t batch, const ls_logs *logs, char *out,
                          size_t size, ls_err *err) LS_MUST_CHECK;

#endif
