/* SPDX-License-Identifier: MIT */
/*
 * dump_names.c - where dumps go: patterns, numbers instead of overwriting, summaries.
 *
 * plain: no
 * case: never_overwrites
 * options: out={out}/x.tide
 * expect: sorted(files) == ['x.tide', 'x.tide.1', 'x.tide.2']
 * expect: [r.dump.sequence for r in dumps] == [0, 1, 2]
 * expect: oct(os.stat(out + '/x.tide').st_mode & 0o777) == '0o600'
 * case: patterns
 * options: out={out}/%e-%p-%h-%n-%t.tide
 * expect: sorted(files)[0].startswith('dump_names-' + str(first.process.pid) + '-'
 *         + os.uname().nodename + '-0-1')
 * expect: len(files) == 3
 * case: default
 * options: out=tidepool.%e.%p.tide
 * expect: len([n for n in os.listdir(work) if n.startswith('tidepool.dump_names.')]) == 3
 * expect: len(read(work + '/' + min(os.listdir(work)))) == 1
 * case: comma
 * options: out={out}/a\,b.tide
 * expect: sorted(files) == ['a,b.tide', 'a,b.tide.1', 'a,b.tide.2']
 * case: summary_stderr
 * options: summary=stderr
 * stderr: (?s)peak.*peak.*peak
 * expect: len(files) == 3
 * case: summary_file
 * options: summary={work}/summary
 * expect: os.path.getsize(work + '/summary') > 100
 * case: by_bytes
 * options: interval=64k
 * arg: 4096000
 * expect: sum(1 for r in dumps if r.dump.reason == 'interval') >= 20
 * expect: [r.dump.sequence for r in dumps] == list(range(len(dumps)))
 * expect: last.dump.reason == 'exit'
 * case: by_time
 * options: interval=100ms
 * arg: 0 1200
 * expect: sum(1 for r in dumps if r.dump.reason == 'interval') >= 3
 */
#include "scene.h"

#include <time.h>

int main(int argc, char **argv)
{
    size_t bytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    long ms = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    MUST(!chdir("/"));  // names were resolved at start
    for (size_t done = 0; done < bytes; done += 1009) free(malloc(1009));
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        for (unsigned i = 0; i < 1000; i++) free(malloc(i * 31));
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (
        (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 <
        ms);
    if (argc < 2) {
        raise(SIGUSR1);
        raise(SIGUSR1);
    }
    return 0;
}
