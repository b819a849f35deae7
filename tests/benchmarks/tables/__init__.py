"""The tables of docs/results.md, every number from a run: ``python -m tests.benchmarks.tables --help``.

A *cell* is one measured run with a stable fingerprint; its result is one JSON file, and a cell whose file exists is not
run again. A *table* names the cells it needs and renders what their files say, beside the paper's figures.

    encoders, images    what is measured: zoos with their truth, image sets cut into disjoint parts
    cells, bench        one run as a value; making the cells of a zoo
    defence             the methods under test; sees an encoder, unlabelled images and a seed, nothing else
    measurement         ACC and ASR before and after; the only reader of the truth
    audit_work          a whole audit, as the command line runs it, with what it cost and what was forecast
    work, schedule      a cell in a process of its own; many of them, resumed, within a budget
    summary, markdown   means, deviations, AUROC; tables as text, between their markers
    contents/           one file per table
"""
