"""The bytes of images: files of one folder, and what their content is.

``store`` takes uploads (streamed, hashed, bounded, durable before they count) and gives downloads; ``inspect`` says
what a file really is, so that nothing reaches a hypervisor under a false name. What images *are* is in the records.
This room may enter ``model`` and ``queries`` only.
"""
