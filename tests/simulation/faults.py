"""What goes wrong, for how long, and that it ends.

Each seed has its own mixture: a few kinds of fault, often, find more than all kinds at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from nova_fast.model.states import PowerState

from .cloud import CONTROLLER, Cloud
from .disk import Mood
from .wire import Weather

DAY_US = 86_400_000_000


class Faults:
    """Breaks things until it is told to stop; then everything is whole again."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.rng = random.Random(f"faults {cloud.seed}")
        self.going = True
        self.kinds: list[Callable[[], None]] = [
            self.kill_one,
            self.kill_one,
            self.kill_central,
            self.kill_host,
            self.stop_one,
            self.part_host,
            self.bad_weather,
            self.slow_disk,
            self.full_disk,
            self.unsure_disk,
            self.jump_clock,
            self.hang_hypervisor,
            self.fail_hypervisor,
            self.lose_hypervisor,
            self.change_guest,
            self.fail_networks,
            self.hang_networks,
        ]
        self.mixture = self.rng.sample(self.kinds, self.rng.randint(2, 6))

    async def strike(self) -> None:
        """Something goes wrong every few seconds."""
        pace_s = 1 + 8 * self.rng.random()
        while self.going:
            await asyncio.sleep(self.rng.expovariate(1 / pace_s))
            if self.going:
                self.rng.choice(self.mixture)()

    def end(self) -> None:
        """Everything works again; clocks stay where they are."""
        self.going = False
        cloud = self.cloud
        cloud.network.weather = Weather()
        cloud.disk.mood = Mood.WELL
        for host in cloud.hosts:
            cloud.network.heal(host)
            cloud.hypervisors[host].recover()
            cloud.planes[host].recover()
        for program in cloud.programs.values():
            if program.process is not None:
                program.process.dies_after = None
                if program.alive:
                    cloud.loop.go_on(program.process)
            cloud.start(program.name)

    def _for_a_while(self, longest_s: float, end: Callable[[], None]) -> None:
        self.cloud.network.later(self.rng.random() * longest_s, lambda: end() if self.going else None)

    # ------------------------------------------------------------------ processes
    def kill_one(self) -> None:
        """A program dies between any two of its steps."""
        name = self.rng.choice([*self.cloud.programs, "conductor", "scheduler"])
        program = self.cloud.programs[name]
        back_after_s = self.rng.choice((0.3, 0.3, 1, 5, 40)) * (0.5 + self.rng.random())
        if program.alive and program.process is not None:
            program.process.dies_after = self.rng.randrange(40)

            def start_again() -> None:
                self.cloud.network.later(back_after_s, self.cloud.start, name)

            program.process.on_death.append(start_again)

    def kill_central(self) -> None:
        """The controller restarts."""
        back_after_s = 0.5 + 10 * self.rng.random()
        for name, program in self.cloud.programs.items():
            if program.machine.name == CONTROLLER:
                self.cloud.kill(name, back_after_s * (1 + self.rng.random() / 10))

    def kill_host(self) -> None:
        """A host loses its power."""
        host = self.rng.choice(self.cloud.hosts)
        self.cloud.hypervisors[host].power_cut()
        self.cloud.planes[host].power_cut()
        for name in (f"compute@{host}", f"network@{host}"):
            self.cloud.kill(name, 1 + 50 * self.rng.random())

    def stop_one(self) -> None:
        """A program stands still for a while: it reads nothing, answers nothing."""
        program = self.rng.choice(list(self.cloud.programs.values()))
        process = program.process
        if process is not None and process.alive:
            self.cloud.loop.stop(process)
            self._for_a_while(40, lambda: self.cloud.loop.go_on(process))

    # ------------------------------------------------------------------ the wire
    def part_host(self) -> None:
        """A host is cut off."""
        host = self.rng.choice(self.cloud.hosts)
        self.cloud.network.part(host, 45)
        self._for_a_while(90, lambda: self.cloud.network.heal(host))

    def bad_weather(self) -> None:
        """Frames are late, lost, doubled, out of order."""
        rng = self.rng
        self.cloud.network.weather = Weather(
            delay_s=rng.choice((0.0005, 0.02, 0.5)),
            lost=rng.choice((0, 0.02, 0.2)),
            doubled=rng.choice((0, 0.05, 0.3)),
            reordered=rng.choice((0, 0.1, 0.5)),
        )

        def better() -> None:
            self.cloud.network.weather = Weather()

        self._for_a_while(30, better)

    # ------------------------------------------------------------------ the disk and the clocks
    def _mood(self, mood: Mood, longest_s: float) -> None:
        self.cloud.disk.mood = mood

        def better() -> None:
            self.cloud.disk.mood = Mood.WELL

        self._for_a_while(longest_s, better)

    def slow_disk(self) -> None:
        """A sync takes seconds."""
        self._mood(Mood.SLOW, 20)

    def full_disk(self) -> None:
        """Nothing can be written."""
        self._mood(Mood.FULL, 30)

    def unsure_disk(self) -> None:
        """The next commit may or may not have happened."""
        self._mood(Mood.UNSURE, 5)

    def jump_clock(self) -> None:
        """A machine's wall clock is set."""
        machine = self.rng.choice([*self.cloud.machines.values(), self.cloud.machines[CONTROLLER]])
        machine.clock_ahead_us += self.rng.choice((-1, 1)) * self.rng.choice((1_000_000, 90_000_000, DAY_US))

    # ------------------------------------------------------------------ the hosts
    def hang_hypervisor(self) -> None:
        """Operations begin and do not end until it is over."""
        hypervisor = self.cloud.hypervisors[self.rng.choice(self.cloud.hosts)]
        hypervisor.hanging = True
        self._for_a_while(200, hypervisor.recover)

    def fail_hypervisor(self) -> None:
        """Operations fail, before or after they were done."""
        hypervisor = self.cloud.hypervisors[self.rng.choice(self.cloud.hosts)]
        hypervisor.failing = self.rng.choice((0.1, 0.5, 1.0))
        self._for_a_while(40, hypervisor.recover)

    def lose_hypervisor(self) -> None:
        """libvirtd is away: no answers, no events."""
        hypervisor = self.cloud.hypervisors[self.rng.choice(self.cloud.hosts)]
        hypervisor.away = True
        self._for_a_while(40, hypervisor.recover)

    def change_guest(self) -> None:
        """A guest shuts down or dies by itself; the event may come twice."""
        host = self.rng.choice(self.cloud.hosts)
        hypervisor = self.cloud.hypervisors[host]
        running = [name for name, state in hypervisor.guests.items() if state is PowerState.RUNNING]
        if running:
            state = self.rng.choice((PowerState.SHUTDOWN, PowerState.CRASHED))
            hypervisor.change(self.rng.choice(running), state, twice=self.rng.random() < 0.3)

    def fail_networks(self) -> None:
        """A host's networks cannot be changed, or only some of them, or nobody hears of it."""
        plane = self.cloud.planes[self.rng.choice(self.cloud.hosts)]
        plane.failing = self.rng.choice((0.1, 0.5, 1.0))
        self._for_a_while(40, plane.recover)

    def hang_networks(self) -> None:
        """Changing a host's networks takes for ever."""
        plane = self.cloud.planes[self.rng.choice(self.cloud.hosts)]
        plane.hanging = True
        self._for_a_while(150, plane.recover)
