/* Plugins that must be refused: compiled once for each BAD_... */
#include "lockstep_plugin.h"

#if defined BAD_NO_ENTRY
int something_else(void);
int something_else(void) {
    return 1;
}
#else

static int row(const lockstep_value *settings, const float *p, const void *target, int64_t n, float *dp, float scale,
               double *loss, lockstep_error *error) {
    (void)settings, (void)p, (void)target, (void)n, (void)dp, (void)scale, (void)loss;
    return lockstep_fail(error, "a row that always fails");
}

#if defined BAD_BUILT_IN
#define LOSS_NAME "mse"
#elif defined BAD_TAKEN
#define LOSS_NAME "profit_and_cost"
#else
#define LOSS_NAME "always_fails"
#endif

static const lockstep_loss loss = {.name = LOSS_NAME, .row = row};
static const lockstep_loss *const losses[] = {&loss, NULL};

#if defined BAD_INIT
static const lockstep_key keys[] = {{.name = "licence", .type = LOCKSTEP_TEXT}, {0}};
static int init(const lockstep_value *settings, lockstep_error *error) {
    return settings[0].text[0] != '\0' ? 0 : lockstep_fail(error, "no licence; set \"licence\" in its config");
}
#endif

static const lockstep_plugin plugin = {
    LOCKSTEP_PLUGIN_HEAD, .name = "bad", .version = "1", .losses = losses,
#if defined BAD_INIT
    .keys = keys,         .init = init,
#endif
};

const lockstep_plugin *lockstep_plugin_entry(void) {
#if defined BAD_ABI
    static lockstep_plugin other;
    other = plugin;
    other.abi = LOCKSTEP_PLUGIN_ABI + 1;
    return &other;
#elif defined BAD_SIZES
    static lockstep_plugin other;
    other = plugin;
    other.layer_bytes -= 8;
    return &other;
#else
    return &plugin;
#endif
}
#endif
