"""What keeps a server of ours from running, in words for the person in front of the screen."""


class CannotStart(Exception):
    """Something did not start, or ended when it should not. The message says what, and what to do."""
