"""How do other frameworks use Lockstep? An adapter for each; what they share lies in `documents`."""
