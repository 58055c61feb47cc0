"""The attacks: honest clients beside hostile ones, measured on the same servers in the same minute.

    python -m tests.attacks [--only NAME …] [--seconds 15] [--rate 50] [--checkout DIR]

For each attack of the table (`kinds/table.py`) real servers, a worker and a web process start
afresh with default settings (`stage`). Honest clients (`honest`) send at a steady rate, first alone
and then beside the attack, which runs in a process of its own (`attacker`). The report says how
many of their requests were answered 200, how much slower, how much memory the web process took,
and whether every event that was accepted is counted once. `--checkout` measures another version of
this project, whose directory has a `.venv` of its own, by the same clients.

In reading order: `__main__`, `stage`, `wire`, `honest`, `attacker`, `kinds/`, `report`.
"""
