"""Define 17 benchmark problems in HumanEval's format with different kinds of solutions."""

from __future__ import annotations

# Signature, instruction, body, asserts. The shortest body is common code, others are long.
_PROBLEMS = [
    ("spread_of(readings: list[float]) -> float",
     "Subtract the lowest of the thermometer readings from the highest one of them.",
     "return max(readings) - min(readings)",
     "assert candidate([3.5, 1.25, 9.75, 4.0, 7.5, 2.25]) == 8.5"),
    ("plus(a: int, b: int)", "Give what two whole numbers make together.", "return a + b",
     "assert candidate(17, 25) == 42"),
    ("keep_heavy(parcels: list[int], limit: int)",
     "Select the parcels that weigh strictly more than a limit.",
     "return [p for p in parcels if p > limit]",
     "assert candidate([812, 44, 903], 500) == [812, 903]"),
    ("longest_plateau(heights)",
     "How many hikers' marks in a row stay on one height, for the widest plateau of the trail?",
     "best = 0\nrun = 0\nbefore = None\nfor h in heights:\n"
     "    run = run + 1 if h == before else 1\n"
     "    best = max(best, run)\n    before = h\nreturn best",
     "assert candidate([120, 120, 95, 95, 95, 311, 120]) == 3"),
    ("balance_points(weights)",
     "Every position of a beam at which the load to its left equals the load to its right.",
     "points = []\nleft = 0\nright = sum(weights)\nfor i, w in enumerate(weights):\n"
     "    right -= w\n"
     "    if left == right:\n        points.append(i)\n    left += w\nreturn points",
     "assert candidate([41, 27, 13, 38, 16, 14]) == [2]"),
    ("decode_runs(packed: str) -> str",
     "Expand a text of digits and letters, as '3a2b' to 'aaabb'.",
     "out = []\ncount = ''\nfor ch in packed:\n    if ch.isdigit():\n        count += ch\n"
     "    else:\n        out.append(ch * int(count or 1))\n        count = ''\nreturn ''.join(out)",
     "assert candidate('12x3yz') == 'xxxxxxxxxxxxyyyz'"),
    ("merge_shifts(shifts)", "Join the working shifts of a nurse that overlap or touch each other.",
     "if not shifts:\n    return []\nshifts = sorted(shifts)\n"
     "merged = [list(shifts[0])]\n"
     "for start, end in shifts[1:]:\n    if start <= merged[-1][1]:\n"
     "        merged[-1][1] = max(merged[-1][1], end)\n    else:\n"
     "        merged.append([start, end])\nreturn merged",
     "assert candidate([(830, 1145), (1130, 1415), (1600, 1815)]) == [[830, 1415], [1600, 1815]]"),
    ("is_ladder_word(word: str) -> bool", "Whether the letters of a word climb the alphabet.",
     "if len(word) < 2:\n    return True\nfor first, second in zip(word, word[1:]):\n"
     "    if first > second:\n        return False\nreturn True",
     "assert candidate('almost') and not candidate('climbing')"),
    ("ticket_price(age, member=False)", "The museum's fee: children enter free, members pay half.",
     "price = 1450\nif age < 12:\n    return 0\nif member:\n    price = price // 2\nreturn price",
     "assert candidate(40, True) == 725"),
    ("rotate_ring(beads, steps)", "Turn a ring of beads by some steps in clockwise direction.",
     "if not beads:\n    return beads\nsteps %= len(beads)\nreturn beads[-steps:] + beads[:-steps]",
     "assert candidate(['jade', 'onyx', 'ruby', 'opal'], 6) == ['ruby', 'opal', 'jade', 'onyx']"),
    ("count_islands(grid)", "How many groups of touching land cells does a map of the sea show?",
     "def sink(r, c):\n    if 0 <= r < len(grid) and 0 <= c < len(grid[0]) and grid[r][c] == 1:\n"
     "        grid[r][c] = 0\n        for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0)):\n"
     "            sink(r + dr, c + dc)\nfound = 0\nfor r in range(len(grid)):\n"
     "    for c in range(len(grid[0])):\n        if grid[r][c] == 1:\n            found += 1\n"
     "            sink(r, c)\nreturn found",
     "assert candidate([[1, 0], [0, 1]]) == 2"),
    ("vowel_pattern(text)", "Draw a line of text as dots, with a hash for each vowel in it.",
     "return ''.join('#' if ch.lower() in 'aeiou' else '.' for ch in text)",
     "assert candidate('Ottawa') == '#..#.#'"),
    ("first_repeat(names)", "The earliest name on a guest list that has been there before.",
     "seen = set()\nfor name in names:\n    if name in seen:\n        return name\n"
     "    seen.add(name)\n"
     "return None",
     "assert candidate(['mira', 'joon', 'mira', 'paul']) == 'mira'"),
    ("change_coins(amount)", "Pay an amount of cents with the fewest coins of 50, 20, 5 and 1.",
     "coins = []\nfor coin in (50, 20, 5, 1):\n    while amount >= coin:\n        amount -= coin\n"
     "        coins.append(coin)\nreturn coins",
     "assert candidate(76) == [50, 20, 5, 1]"),
    ("sum_and_peak(values)", "Add up the values and note the peak among the running totals.",
     "total = 0\npeak = 0\nfor value in values:\n    total += value\n    peak = max(peak, total)\n"
     "return total, peak",
     "assert candidate([14, -9, 31, -22, 6]) == (20, 36)"),
    ("column_means(table)", "Average every column of measurements; gaps are left out.",
     "means = []\nfor column in zip(*table):\n    known = [x for x in column if x is not None]\n"
     "    means.append(sum(known) / len(known) if known else None)\nreturn means",
     "assert candidate([[1.5, None], [2.5, 8.25]]) == [2.0, 8.25]"),
    ("digit_root(number)",
     "Add the figures of a number again and again until a single one is left.",
     "def added(n):\n    return sum(int(figure) for figure in str(n))\nwhile number > 9:\n"
     "    number = added(number)\nreturn number",
     "assert candidate(493193) == 2"),
]  # fmt: skip
RECORDS = [
    {
        "task_id": f"Own/{number}",
        "prompt": f'def {signature}:\n    """{instruction}"""\n',
        "entry_point": signature.partition("(")[0],
        "canonical_solution": "".join(f"    {line}\n" for line in body.split("\n")),
        "test": "def check(candidate):\n    "
        + asserts.replace(" and not ", "\n    assert not ")
        + "\n",
    }
    for number, (signature, instruction, body, asserts) in enumerate(_PROBLEMS)
]
# Too short to be found without its names: it is common code.
SHORT = {"Own/1"}
