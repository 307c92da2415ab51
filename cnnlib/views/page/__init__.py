"""The page of a report, and of a folder of reports: one HTML file each, with all it needs in it.

    collect, history : storage -> what there is to say, as it was stored (the only files here that read)
    mistakes, images : predictions -> which mistakes are shown; their pixels -> pictures in the page
    charts           : numbers -> places on a chart
    view, trends     : what there is to say -> what the templates draw
    render           : the same -> HTML
    publish          : HTML -> storage

Charts are SVG that the templates draw. No page asks for anything over a network.
"""
