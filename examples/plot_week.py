"""Plot the last seven days of a shop: events by day, and page views by hour of the day.

Run it as a script, or cell by cell in an editor that knows `# %%`. It writes week.png.
"""

# %% Read the counts, which are exact at this moment
from datetime import datetime, timedelta, timezone

import matplotlib.pyplot as plt

from tasks.app import services

stats = services().stats
last = datetime.now(timezone.utc).date()
first = last - timedelta(days=6)

by_day = {
    event_type: stats.series(event_type, first, last, by="day")
    for event_type in ("page_view", "add_to_cart", "sale")
}
by_hour = stats.series("page_view", first, last, by="hour")
revenue = stats.sums.read_sum("sale", "total", first, last).sum

# %% Draw the events of each day
figure, (upper, lower) = plt.subplots(2, figsize=(10, 8), layout="constrained")
figure.suptitle(f"{first} to {last} (UTC): sales of {revenue} €")

width = 0.3
for number, (event_type, series) in enumerate(by_day.items()):
    places = [place + number * width for place in range(7)]
    bars = upper.bar(places, [count for _, count in series], width, label=event_type)
    upper.bar_label(bars)
upper.set_xticks([place + width for place in range(7)], [f"{day:%a %d}" for day, _ in series])
upper.margins(y=0.1)  # room for the numbers above the bars
upper.set_title("Events by day")
upper.legend()

# %% Draw the page views of each hour of the day, all days together
counts = [sum(count for at, count in by_hour if at.hour == hour) for hour in range(24)]
lower.bar(range(24), counts)
lower.set_xticks(range(24))
lower.set_title("Page views by hour of the day")

# %% Keep the picture
figure.savefig("week.png")
print(f"{sum(count for _, count in by_hour)} page views, sales of {revenue} €: week.png")
