/* SPDX-License-Identifier: MIT */
/*
 * test_demangle.c - encoded names as their programmers know them; hostile ones in no time.
 */
#include "tests/unit/report/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/symbols.h"

static void check(const char *encoded, const char *expected)
{
    char text[TP_NAMES_TEXT];
    tp_demangle(text, sizeof(text), encoded);
    assert_string_equal(text, expected);
}

static void names_of_cxx(void **state)
{
    (void)state;
    check("_ZN4tide4pool4takeEm", "tide::pool::take(unsigned long)");
    check("_ZN12_GLOBAL__N_16secretEv", "(anonymous namespace)::secret()");
    check("_Znwm", "operator new(unsigned long)");
    check("_ZN3FooC4Ev", "Foo::Foo()");
    check("_ZZ5outervENKUliE_clEi", "outer()::{lambda(int)#1}::operator()(int) const");
    check("_Z3foov.cold", "foo() [clone .cold]");
    check("_GLOBAL__sub_I_main.cpp", "_GLOBAL__sub_I_main.cpp");
}

static void names_of_rust_without_their_hash(void **state)
{
    (void)state;
    check(
        "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad");
    check("_RNvC6_123foo3bar", "123foo::bar");
    check("_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar");
    check("_RINvNtC3std3mem8align_ofjdE", "std::mem::align_of::<usize, f64>");
}

static void names_of_d(void **state)
{
    (void)state;
    check("_D4test3fooAa", "test.foo");
    check("_D8demangle4testFZv", "demangle.test()");
    check("_Dmain", "D main");
}

static void other_names_stay(void **state)
{
    (void)state;
    check("malloc", "malloc");
    check("", "");
    check("_", "_");
    check("_Z", "_Z");
    check("_ZZZZZ", "_ZZZZZ");
    check("_R", "_R");
    check("_Dear", "_Dear");
    check("_start", "_start");
    check("memcpy@@GLIBC_2.14", "memcpy");
    check("fopen@GLIBC_2.2.5", "fopen");
    check("@odd", "@odd");
    check("run.part.0.isra.1", "run.part.0.isra.1");
}

static void a_long_name_is_cut_between_letters(void **state)
{
    (void)state;
    char name[3001], text[16];
    memset(name, 'a', 3000);
    name[3000] = '\0';
    tp_demangle(text, sizeof(text), name);
    assert_string_equal(text, "aaaaaaaaaaaa...");
    strcpy(name,
        "aaaaaaaaaaa\xc3\xa4"
        "aaaaaaaaa");
    tp_demangle(text, sizeof(text), name);
    assert_string_equal(text, "aaaaaaaaaaa...");
    strcpy(name, "_ZN4tide4pool4takeEm");
    tp_demangle(text, sizeof(text), name);
    assert_string_equal(text, "tide::pool::...");
}

/* Each pair is made of two of the one before: the last is 2^n times the first. */
static void explode_cxx(char *name, size_t size, int n)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t used = (size_t)snprintf(name, size, "_Z1f1PI1aS0_E");
    for (int i = 1; i <= n; i++)
        used += (size_t)snprintf(
            name + used, size - used, "S_IS%c_S%c_E", digits[i], digits[i]);
}

/* The same of tuples; a reference back is a position less one, in base 62. */
static void explode_rust(char *name, size_t size, int n)
{
    static const char digits[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t used = (size_t)snprintf(name, size, "_RINvC1a1fTllE");
    size_t last = 8;
    for (int i = 0; i < n; i++) {
        char back[8] = { digits[(last - 1) % 62], '\0' };
        if (last - 1 >= 62) {
            back[0] = digits[(last - 1) / 62];
            back[1] = digits[(last - 1) % 62];
            back[2] = '\0';
        }
        last = used - 2;
        used += (size_t)snprintf(name + used, size - used, "TB%s_B%s_E", back, back);
    }
    snprintf(name + used, size - used, "E");
}

static void a_name_that_explodes_is_cut(void **state)
{
    (void)state;
    char name[TP_NAMES_TEXT], text[TP_NAMES_TEXT];
    explode_cxx(name, sizeof(name), 1);
    check(name, "f(P<a, a>, P<P<a, a>, P<a, a> >)");
    explode_cxx(name, sizeof(name), 33);
    tp_demangle(text, sizeof(text), name);
    assert_int_equal(strlen(text), sizeof(text) - 1);
    assert_int_equal(strncmp(text, "f(P<a, a>, P<P<", 15), 0);
    assert_string_equal(text + sizeof(text) - 4, "...");

    explode_rust(name, sizeof(name), 1);
    check(name, "a::f::<(i32, i32), ((i32, i32), (i32, i32))>");
    explode_rust(name, sizeof(name), 60);
    tp_demangle(text, sizeof(text), name);
    assert_int_equal(strlen(text), sizeof(text) - 1);
    assert_int_equal(strncmp(text, "a::f::<(i32", 11), 0);
}

static void deep_names_do_not_use_up_the_stack(void **state)
{
    (void)state;
    static const char *const starts[] = { "_Z1f", "_RINvC1a1f", "_D1aFZ" };
    static const char *const parts[] = { "P", "K", "F", "N", "I", "T", "A", "R", "X",
        "_", "S_", "DpT_", "Q", "H", "cv", "L" };
    char text[TP_NAMES_TEXT];
    char *name = malloc(70000);
    assert_non_null(name);
    for (size_t s = 0; s < 3; s++) {
        for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++) {
            for (size_t most = 500; most < 65000; most *= 4) {
                strcpy(name, starts[s]);
                size_t n = strlen(name), length = strlen(parts[p]);
                for (; n + length < most; n += length) strcpy(name + n, parts[p]);
                tp_demangle(text, sizeof(text), name);
                assert_true(strlen(text) < sizeof(text));
            }
        }
    }
    free(name);
}

/* Letters that mean something to the decoders, in random order; the seed is fixed. */
static void nonsense_is_no_trouble(void **state)
{
    (void)state;
    static const char letters[] = "NSIEKPRFTDvijxlbcQABCLMXZ_0123456789aghstnpuw";
    static const char *const starts[] = { "_Z", "_R", "_D", "_ZN", "_RNv", "_D4" };
    char name[256], text[TP_NAMES_TEXT];
    uint64_t random = 997;
    for (int i = 0; i < 20000; i++) {
        strcpy(name, starts[i % 6]);
        size_t n = strlen(name), most = 4 + (size_t)(i % 200);
        while (n < most + 4) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            name[n++] = letters[(random >> 33) % (sizeof(letters) - 1)];
        }
        name[n] = '\0';
        tp_demangle(text, sizeof(text), name);
        assert_true(strlen(text) < sizeof(text));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_cxx),
        cmocka_unit_test(names_of_rust_without_their_hash),
        cmocka_unit_test(names_of_d),
        cmocka_unit_test(other_names_stay),
        cmocka_unit_test(a_long_name_is_cut_between_letters),
        cmocka_unit_test(a_name_that_explodes_is_cut),
        cmocka_unit_test(deep_names_do_not_use_up_the_stack),
        cmocka_unit_test(nonsense_is_no_trouble),
    };
    return cmocka_run_group_tests_name("demangle", tests, NULL, NULL);
}
