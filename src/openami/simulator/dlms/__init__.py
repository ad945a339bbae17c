"""A DLMS/COSEM meter as a server, written from the standards and without the driver's codec (decision 0064).

frames      (pure)  HDLC and wrapper, the meter's side of each
server      (pure)  associations and services: a message in, its answer out
ciphering   (pure)  security suite 0
data        (pure)  values, written and read
objects     (pure)  the interface classes a meter has
meter               a village's meter: objects filled from what it measures
lines               meters behind a TCP port or on a serial line, and what is wrong with each
"""
