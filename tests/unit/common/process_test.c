#include "common/process.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void parses_names_with_parentheses(void **state) {
    (void)state;
    ls_process_stat stat;
    assert_true(ls_process_parse(
        "4711 (a) R 1 (b) S 17 4711 4700 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 1 0 8812345 1000 20 18", &stat));
    assert_int_equal(stat.pid, 4711);
    assert_int_equal(stat.state, 'S');
    assert_int_equal(stat.parent, 17);
    assert_int_equal(stat.session, 4700);
    assert_int_equal(stat.start, 8812345);
    assert_false(ls_process_parse("4711 (short) S 17 4711", &stat));
    assert_false(ls_process_parse("", &stat));
}

static void knows_itself_and_no_other_under_its_number(void **state) {
    (void)state;
    ls_process self = ls_process_of(getpid());
    assert_true(self.start > 0);
    assert_true(ls_process_alive(self));
    ls_process earlier = {self.pid, self.start - 1};
    assert_false(ls_process_alive(earlier));
    assert_false(ls_process_signal(earlier, 0));
    assert_true(ls_process_signal(self, 0));
}

static void a_zombie_is_not_alive(void **state) {
    (void)state;
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1); /* until the parent closes its end */
    }
    close(ends[0]);
    ls_process child = ls_process_of(pid);
    assert_true(ls_process_alive(child));
    close(ends[1]);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_false(ls_process_alive(child)); /* not waited for yet */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void finds_a_session(void **state) {
    (void)state;
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        pid_t member = fork();
        if (member == 0) {
            setpgid(0, 0); /* as Open MPI does with its ranks */
        }
        (void)!write(ready[1], "x", 1);
        for (;;) {
            pause();
        }
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    ls_process leader = ls_process_of(pid), members[4], stranger = {pid, leader.start - 1};
    assert_int_equal(ls_process_session(leader, members, 4), 2);
    assert_int_equal(ls_process_session(stranger, members, 4), 0);
    for (int i = 0; i < 2; i++) {
        assert_true(ls_process_signal(members[i], SIGKILL));
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(ready[0]);
    close(ready[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_names_with_parentheses),
        cmocka_unit_test(knows_itself_and_no_other_under_its_number),
        cmocka_unit_test(a_zombie_is_not_alive),
        cmocka_unit_test(finds_a_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
