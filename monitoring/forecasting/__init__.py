"""Early warning: which sessions are likely to lose their connection within the next hour, and why.

history.py turns events into numbers, pure; learner.py learns from them with river and judges itself against "same as
yesterday"; run.py does it on the rows, in a process of its own that ends (river takes 87 MB).
"""
