"""What methods do to documents and questions, and what is read off that.

* ``curves.py``: the rise of the loss along sweeps, and the metrics of whole curves;
* ``answers.py``: the answers to questions, and the metrics of them;
* ``continuations.py``: what a changed model writes;
* ``scorer.py``: runs the language model under the changes of a method, and keeps its results;
* ``methods.py``: the results of all methods and controls;
* ``samples.py``: bootstrap samples, and intervals of what is computed anew on each.
"""
