"""Whether an SAE is loaded right: its numbers on real activations, beside those with common mistakes undone.

`saebench.diagnosis.diagnose` puts the parts together: the activations, which are captured once (`activations`), the
table of variants (`variants`), their numbers (`measure`), and the rule of the verdict (`verdict`).
"""
