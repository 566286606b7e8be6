"""SAEs that are made for a synthetic model, from bad to perfect, so that it is known which of two is the better one."""
