"""Checks of records before they are published. They read files and cards only, and run nothing again."""
