"""Statistics: functions of arrays and tensors that know nothing of language models and SAEs."""
