"""The judge: does a gateway, or a head-end, keep the contract, and where not?

It knows the contract and neither of our programs: nothing here imports ``openami.gateway`` or
``openami.headend``, and what it says of them it would say of a stranger's. Rules are pure functions over
what was seen; a door, an observer and a vendor's adapter do the seeing.
"""
