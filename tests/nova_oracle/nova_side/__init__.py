"""What runs inside Nova's environment: cases in, what Nova's own classes say of them out. Nothing of ours is here."""
