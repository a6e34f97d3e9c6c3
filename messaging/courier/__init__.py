"""The courier: lives in the session host, sends what is queued and stores what arrives.

`courier.py` is the loop and the host extension; `lane.py` one account's way out; `outcome.py` decides what becomes of
a send; `letters.py` translates rows and contents; `inbox.py` stores what arrives, `journal.py` keeps it until then.
"""
