"""Draws the page of a report, and of a folder of reports: each is one HTML file that contains all it needs.

    report_data               : storage -> what the page states (publish reads the reports of the history page)
    sections/                 : tables -> the values, sentences and charts of one section each
    images, charts, formatting: pixels -> pictures; numbers -> places on a chart; numbers -> text
    report_view, history_view : all sections -> what the templates draw
    render                    : views -> HTML
    publish                   : HTML -> storage

Templates draw the charts as SVG. No page requests anything over a network.
"""
