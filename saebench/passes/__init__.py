"""What the language model does on texts, computed once and shared by every SAE, task and run.

* ``context.py``: what a task is handed; the other modules are reached through it;
* ``captured.py``: activations and losses of the unmodified model on sampled sequences of a text;
* ``clean.py``: the clean pass at one site, its ablations, and splices into it;
* ``examples.py``: activations on texts that are read one by one, such as labelled examples;
* ``items.py``, ``item_blocks.py``, ``scored.py``: the probability of chosen tokens under interventions;
* ``activity.py``: what an SAE's latents do on texts that are read one by one;
* ``positions.py``: where the evaluated tokens and the predictions of sequences lie;
* ``keys.py``: what a cached value depends on.
"""
