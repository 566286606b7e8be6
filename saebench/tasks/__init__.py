"""The evaluations, one package each. Files of one name hold the same thing in all of them:

* ``task.py``: the task from its settings to its output, step by step;
* ``settings.py``: what a user may choose, as a type;
* ``data.py``: the texts and datasets that it reads, and how they are divided;
* ``selection.py``: which latents, probes or strengths it chooses, and by which rule;
* ``scoring.py``: what it measures of an SAE;
* ``report.py``: how that becomes measurements with intervals.

A part that a task does not have is missing, and one that is large is a package of the same name.
"""
