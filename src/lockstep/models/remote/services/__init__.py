"""How is each service spoken to?  One file per protocol: requests and answers, pure, no network."""
