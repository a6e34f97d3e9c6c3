"""The WhatsApp side: the client protocol, the neonize adapter and a scripted fake.

Nothing here imports Django, so that the disposable pairing child stays small.
"""
