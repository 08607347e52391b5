// SPDX-License-Identifier: MIT
/*
 * stack_throws.cpp - a million exceptions, through frames of every depth.
 */
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

static int down(int n, const std::function<int(int)> &last)
{
    if (n == 0) return last(n);
    std::string text(40, 'x');
    return down(n - 1, last) + static_cast<int>(text.size());
}

int main()
{
    long caught = 0;
    std::map<int, std::string> kept;
    for (int i = 0; i < 1000000; i++) {
        try {
            down(i % 12, [&](int) -> int {
                std::vector<int> values(static_cast<size_t>(i % 100 + 1));
                throw std::runtime_error("a message that is long enough to be allocated");
            });
        } catch (const std::exception &error) {
            caught++;
            kept[i % 1000] = error.what();
        }
    }
    return caught == 1000000 ? 0 : 1;
}
