"""Counting everything again: what the store says is taken, bound or under way must be what its records add up to.

One file for each subject, each a function from a snapshot to what it found, in sentences; ``recount`` runs them all.
Nothing here repairs anything, and no command does: a finding is a defect of the program or of the disk, and the way
back is a backup. Memory grows with projects and hosts, not with servers.

Subjects read tables and never indexes: whether indexes agree with their tables is found out first, for all of them.
"""
