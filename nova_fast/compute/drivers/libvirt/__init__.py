"""Guests on KVM or QEMU through libvirt.

* pure: ``domain_xml`` (guest → XML), ``image_format`` (is this file what it says?), ``config_drive`` (files → ISO
  9660), ``virt_type`` (kvm or qemu?), ``power_states`` (libvirt's states → ours);
* the rim: ``binding`` (the one file that touches libvirt-python), ``tools`` (qemu-img and friends), ``image_cache`` and
  ``disks`` (files), ``host_facts`` (the machine);
* in between: ``session`` (one connection that comes back), ``domains`` (our domains, never others'), ``locks``,
  ``power`` (actions), and ``driver``, which is what the daemon sees.
"""
