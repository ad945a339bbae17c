"""Commissioning: from a box of meters on a bench to a signed record that a feeder is as it should be.

    bench.py        (pure)  what a scan found, beside the configuration
    load_test.py    (pure)  a load is switched on behind a meter: whose power rises?
    walk.py         (pure)  the list: each meter's state, and what may be ticked
    hour.py         (pure)  an hour's envelopes → what is known of each meter
    acceptance.py   (pure)  … → a verdict for each rule, with what was measured and the remedy
    permit.py       (pure)  who may tick: a PIN that works once, bounded tries, a sign-in that ends
    ledger.py               all of it in the gateway's database, so that a power cut loses nothing
    evidence.py             the hour read from the outbox, beside the running gateway
    pages.py, hour_page.py, frame.py  (pure)  the walk on a phone
    view.py, presses.py     what a page sees, and what a press does
    door.py, web.py         who presses, and the routes

Nothing here can move a relay: the walk is given a way to *read* a meter, and no other (decision 0062).
"""
