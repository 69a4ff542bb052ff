"""What a case costs: time, memory, energy, arithmetic, and whether the machine was fit to be measured on.

The modules are imported one by one where they are needed: a case runs in a process of its own and pays for every import.
"""
