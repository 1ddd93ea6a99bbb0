"""Rules on what an exported artifact takes and gives: against its own declaration, its reference, and its clients."""
