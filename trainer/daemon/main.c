#include <stdio.h>

int main(void) {
    fprintf(stderr, "lockstep: no verb\n");
    return 2;
}
