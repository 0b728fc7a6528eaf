/*
 * Reads the time without a system call, for all programs of a node with its own kernel (in /etc/ld.so.preload).
 *
 * Such a kernel has no working vDSO, and a system call takes 14 to 28 microseconds. QEMU reads the time some twenty
 * times per byte of its monitor protocol, so that a server took a minute to start instead of six seconds.
 *
 * Instead, the processor's counter is read, and synchronised with the kernel's clock every ten milliseconds. If the
 * counter jumps or stops, every read is a system call.
 */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define TRUSTED (SECOND / 100) /* how long the counter is trusted */
#define BASELINE (SECOND / 5)  /* how long its speed is measured */

struct reading {
	unsigned long long counter;
	long long time, last;
};

static __thread struct reading readings[2] __attribute__((tls_model("initial-exec")));
static volatile unsigned long long first_counter;
static volatile long long first_time;
static volatile double speed; /* nanoseconds per tick; 0 while it is unknown */

static unsigned long long counter(void)
{
	unsigned int low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (unsigned long long)high << 32 | low;
}

static long long ask_kernel(clockid_t clock)
{
	struct timespec now;

	syscall(SYS_clock_gettime, clock, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static void measure(unsigned long long ticks, long long now)
{
	if (!first_counter) {
		first_time = now;
		first_counter = ticks;
	} else if (now - first_time > BASELINE && ticks > first_counter) {
		speed = (double)(now - first_time) / (double)(ticks - first_counter);
	}
}

static long long now_of(clockid_t clock)
{
	struct reading *known = &readings[clock];
	unsigned long long ticks = counter();
	double since = (double)(long long)(ticks - known->counter) * speed;
	long long now;

	if (known->counter && speed > 0 && since >= 0 && since < TRUSTED) {
		now = known->time + (long long)since;
	} else {
		now = ask_kernel(clock);
		ticks = counter();
		known->counter = ticks;
		known->time = now;
		if (clock == CLOCK_MONOTONIC)
			measure(ticks, now);
		else if (speed == 0)
			measure(ticks, ask_kernel(CLOCK_MONOTONIC));
	}
	/* Realtime may be set back, but not by such a small step. */
	if (now < known->last && known->last - now < TRUSTED)
		now = known->last;
	known->last = now;
	return now;
}

int clock_gettime(clockid_t clock, struct timespec *result)
{
	long long now;

	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
		return (int)syscall(SYS_clock_gettime, clock, result);
	now = now_of(clock);
	result->tv_sec = now / SECOND;
	result->tv_nsec = now % SECOND;
	return 0;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone)
{
	long long now = now_of(CLOCK_REALTIME);

	(void)zone;
	result->tv_sec = now / SECOND;
	result->tv_usec = now % SECOND / 1000;
	return 0;
}

time_t time(time_t *result)
{
	time_t now = (time_t)(now_of(CLOCK_REALTIME) / SECOND);

	if (result)
		*result = now;
	return now;
}
