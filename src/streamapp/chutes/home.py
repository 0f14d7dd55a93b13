"""Run a chute's `async` code on a loop of its own, in a thread of its own, so that code that blocks holds up nobody."""
