/* Numbers as text. */
#ifndef LS_FIT_NUMBER_H
#define LS_FIT_NUMBER_H

#include <stddef.h>

/* The shortest decimal that reads back as the same double, as Python prints it ("0.1", "1e-05", "nan"). Returns out. */
const char *ls_number_text(double x, char *out, size_t size);

/* Thousands separated: "12,345". Returns out. */
const char *ls_count_text(double x, char *out, size_t size);

#endif
